"""The metrics of a published folder, and which values can be compared."""

import math
from pathlib import Path
from typing import Any

from cclm_core.runtime.readers import parse_json
from flows.graph.node import flatten


def usable(value: Any) -> bool:
    """Whether a metric's value can be compared: a finite number, not a bool.

    >>> [usable(value) for value in (0.5, 3, float("nan"), float("inf"), 10**400, True, "0.5", None)]
    [True, True, False, False, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**1000


def result_metrics(folder: Path) -> dict[str, float]:
    """The usable numbers in the metrics.json of a published folder; nested names are joined by dots."""
    path = folder / "metrics.json"
    if not path.is_file():
        return {}
    values: dict[str, Any] = flatten(parse_json(path.read_bytes(), path, allow_nan=True))
    return {name: float(value) for name, value in values.items() if usable(value)}
