"""The files of a published evaluation: metrics, tables, plots and examples."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cclm_core.evaluation.metrics import EVALUATION_FILE
from cclm_core.evaluation.plots import PLOTS
from cclm_core.evaluation.result import Evaluation
from cclm_core.runtime.artifacts import rounded, write_json, write_text

CHOICE_FILE = "choice.json"
"""Which components each probe reads, and how."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_noise_curve(path: Path, evaluation: Evaluation) -> None:
    """Writes one row per noise rate and metric, so that dvc.yaml can plot every metric without listing them."""
    rows = [
        {"rate": row["rate"], "metric": metric, "value": value}
        for row in evaluation.all_tables().get("noise_curve", [])
        for metric, value in row.items()
        if metric != "rate" and value is not None and not metric.startswith(("documents/", "labels/"))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_rows(path, rows, ("rate", "metric", "value"))


def write_evaluation(folder: Path, name: str, evaluation: Evaluation, card: dict[str, Any]) -> None:
    """Writes the files of an evaluation into an empty folder.

    Args:
        folder: the target folder.
        name: name of the composition, for plot titles.
        evaluation: the metrics, tables and examples.
        card: configuration and digests, for evaluation.json.
    """
    write_json(folder / "metrics.json", _rounded(evaluation.values()))
    metrics = {name: _rounded(metric.canonical()) for name, metric in evaluation.metrics.items()}
    write_json(
        folder / EVALUATION_FILE,
        {
            **card,
            "metrics": metrics,
            "chosen": evaluation.hyperparameters,
            "skipped": evaluation.skipped,
            "warnings": evaluation.warnings,
        },
    )
    if evaluation.choices:
        write_json(folder / CHOICE_FILE, evaluation.choices)
    plots = folder / "plots"
    plots.mkdir()
    for table, rows in evaluation.all_tables().items():
        _write_rows(folder / f"{table}.csv", rows)
        if table in PLOTS:
            title, plot = PLOTS[table]
            plot(plots / f"{table}.png", f"{name}: {title}", evaluation)
    lines = (json.dumps(example, ensure_ascii=False, sort_keys=True) for example in evaluation.examples)
    write_text(folder / "predictions.jsonl", "".join(line + "\n" for line in lines))


def _rounded(value: Any) -> Any:
    """A JSON value with all floats in it rounded."""
    match value:
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list():
            return [_rounded(item) for item in value]
        case float():
            return rounded(value)
    return value


def _write_rows(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """A rounded number, or a text that spreadsheets show instead of running it as a formula.

    Source: OWASP, "CSV Injection".

    >>> _cell("=1+1"), _cell("happy"), _cell(-0.5)
    ("'=1+1", 'happy', -0.5)
    """
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return _rounded(value)
