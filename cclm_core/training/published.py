"""What every training publishes beside its weights: its curve, its figures, its identity."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cclm_core.runtime.artifacts import rounded, write_json, write_text
from cclm_core.training.progress import Point


def write_results(folder: Path, curve: Sequence[Point], identity: dict[str, Any], numbers: Mapping[str, float]) -> None:
    """Writes curve.csv, metrics.json and card.json into a folder that is being published.

    Args:
        folder: where to.
        curve: the learning curve, its last point the final figures.
        identity: everything that the result depends on: configuration, seed, digests of data and base.
        numbers: further figures, e.g. parameters.
    """
    final = {name: value for name, value in curve[-1].items() if name not in ("step", "learning_rate")}
    write_json(folder / "metrics.json", {name: rounded(value) for name, value in {**final, **numbers}.items()})
    write_json(folder / "card.json", identity)
    columns = ["step", *sorted({name for point in curve for name in point} - {"step"})]
    lines = [",".join(columns)]
    lines += [",".join("" if name not in point else f"{rounded(point[name])}" for name in columns) for point in curve]
    write_text(folder / "curve.csv", "\n".join(lines) + "\n")
