"""How two models differ in their metrics, with intervals: paired on the same texts where the results allow it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cclm_core.evaluation.metrics import EVALUATION_FILE, Bootstrap, Measurement, Metric, ratio
from cclm_core.report.published import read_rows
from cclm_core.runtime.artifacts import read_json

LABELS, CONFUSION = "label_accuracy", "confusion.csv"


@dataclass(frozen=True)
class MetricDifference:
    """How two models differ in a metric.

    Attributes:
        metric: its name.
        better_direction: `higher` or `lower`.
        first, second: the values.
        difference: `second` minus `first`.
        interval: confidence interval of the difference; None if it is unknown.
        method: `paired` (both on the same texts), `unpaired` (from the interval of each), or `none`.
        winner: `first`, `second`, or "" if there is no clear difference.
    """

    metric: str
    better_direction: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    method: str
    winner: str

    @property
    def gain(self) -> tuple[float, float, float] | None:
        """How much better `second` is, with the interval, in the better direction; None without an interval."""
        if self.interval is None:
            return None
        low, high = self.interval
        if self.better_direction == "higher":
            return self.difference, low, high
        return -self.difference, -high, -low


def measured_texts(results: Path) -> dict[str, str]:
    """Test set -> the digest of its texts, from evaluation.json; empty if the results do not have it."""
    path = results / EVALUATION_FILE
    texts = read_json(path).get("texts") if path.is_file() else None
    return {str(name): str(digest) for name, digest in texts.items()} if isinstance(texts, dict) else {}


def differences(
    first: Mapping[str, Metric],
    second: Mapping[str, Metric],
    first_results: Path | None,
    second_results: Path | None,
) -> tuple[list[MetricDifference], list[str]]:
    """The differences in the metrics that both have: those of tables, or all if none is shown in tables.

    Args:
        first, second: the metrics of both, by name.
        first_results, second_results: the folders of their results; None if there are none.

    Returns:
        The differences, and remarks for people.
    """
    paired, notes = _paired(first, first_results, second_results)
    names = [name for name in first if name in second]
    headlines = [name for name in names if first[name].headline or second[name].headline]
    rows = []
    for name in headlines or names:
        old, new = first[name], second[name]
        better = old.better or new.better
        if better is None:
            continue
        difference = float(new.value) - float(old.value)
        interval, method = paired.get(name), "paired"
        if interval is None:
            interval = _unpaired(old, new)
            method = "none" if interval is None else "unpaired"
        sign = 0 if interval is None else 1 if interval[0] > 0 else -1 if interval[1] < 0 else 0
        winner = "" if sign == 0 else "second" if (sign > 0) == (better == "higher") else "first"
        rows.append(
            MetricDifference(name, better, float(old.value), float(new.value), difference, interval, method, winner)
        )
    return rows, notes


def _unpaired(first: Metric, second: Metric) -> tuple[float, float] | None:
    """The interval of a difference, from the intervals of both values, as if they were independent."""
    if first.interval is None or second.interval is None:
        return None
    difference = float(second.value) - float(first.value)
    half_widths = [(metric.interval[1] - metric.interval[0]) / 2 for metric in (first, second) if metric.interval]
    half_width = float(sum(width**2 for width in half_widths) ** 0.5)
    return difference - half_width, difference + half_width


def _paired(
    first: Mapping[str, Metric], first_results: Path | None, second_results: Path | None
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Metric -> the interval of `second` minus `first` on the same texts, as far as both have outcomes; remarks."""
    if first_results is None or second_results is None:
        return {}, []
    texts = [measured_texts(results) for results in (first_results, second_results)]
    if not all(texts):
        return _paired_labels(first_results, second_results), []
    shared = {name for name in texts[0] if texts[1].get(name) == texts[0][name]}
    other = sorted({*texts[0], *texts[1]} - shared)
    notes = [f"not measured on the same texts, so not paired: {', '.join(other)}"] if other else []
    from cclm_core.finetuning.outcomes import gains, read_outcomes

    old, new = (
        {key: value for key, value in read_outcomes(results).items() if key[0] in shared}
        for results in (first_results, second_results)
    )
    common = old.keys() & new.keys()
    old, new = ({key: value for key, value in outcomes.items() if key in common} for outcomes in (old, new))
    intervals = {}
    for name, gain in gains(new, old, Bootstrap(), _seed(second_results)).items():
        metric = name.removesuffix("_clean") if name.endswith("_clean") else name
        is_higher = (first.get(metric) or Metric(value=0)).better != "lower"
        intervals[metric] = (gain.low, gain.high) if is_higher else (-gain.high, -gain.low)
    return intervals, notes


def _paired_labels(first_results: Path, second_results: Path) -> dict[str, tuple[float, float]]:
    """The interval of the difference in label accuracy of two compositions with the labels of the same documents."""
    old, new = (_correct(results / CONFUSION) for results in (first_results, second_results))
    if not old or {key for key, _ in old.items()} != new.keys():
        return {}
    keys = sorted(old)
    before, after = (_accuracy([side[key] for key in keys]) for side in (old, new))
    interval = Bootstrap().interval(after.loss_without(before), _seed(second_results))
    return {} if interval is None else {LABELS: interval}


def _correct(path: Path) -> dict[tuple[str, str], bool]:
    """The id and the true label of each document -> whether it was predicted."""
    return {(row["id"], row["true"]): row["true"] == row["predicted"] for row in read_rows(path)}


def _accuracy(correct: list[bool]) -> Measurement:
    return ratio(np.array(correct, dtype=np.float64), np.ones(len(correct)))


def _seed(results: Path) -> int:
    seed = read_json(results / EVALUATION_FILE).get("seed")
    return seed if isinstance(seed, int) else 0
