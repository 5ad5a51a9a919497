"""Measures of predictions on labeled texts: statistics per text, and formulas from their sums.

Formulas are found by the name of the metric, so that another process can compare two models on the same texts from
their saved statistics (see `outcomes`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cclm_core.evaluation.metrics import Better, Floats, Measurement, f1, macro_f1, quotient
from cclm_core.evaluation.probes.labels import label_metrics
from cclm_core.labeled.examples import LabeledText


def _ratio(sums: Floats) -> Floats:
    return quotient(sums[:, 0], sums[:, 1])


def _correlation(sums: Floats) -> Floats:
    """Pearson's correlation (R,) from the sums (R, 6) of 1, x, y, xx, yy and xy."""
    number, x, y, xx, yy, xy = sums.T
    variances = np.maximum(number * xx - x**2, 0) * np.maximum(number * yy - y**2, 0)
    return quotient(number * xy - x * y, np.sqrt(variances))


FORMULAS: dict[str, tuple[Callable[[Floats], Floats], Better]] = {
    "accuracy": (_ratio, "higher"),
    "macro_f1": (macro_f1, "higher"),
    "micro_f1": (f1, "higher"),
    "exact_match": (_ratio, "higher"),
    "entity_f1": (f1, "higher"),
    "entity_precision": (_ratio, "higher"),
    "entity_recall": (_ratio, "higher"),
    "pearson": (_correlation, "higher"),
    "spearman": (_correlation, "higher"),
    "mean_absolute_error": (_ratio, "lower"),
}
"""Metric -> its formula and its better direction."""

HEADLINES = {"classify": "accuracy", "multilabel": "micro_f1", "regress": "pearson", "tag": "entity_f1"}
"""Kind of task -> its main metric."""


def measurement(name: str, statistics: Floats, headline: bool = False, labels: int | None = None) -> Measurement:
    """The metric `name` from the statistics (N, S) of N texts."""
    formula, better = FORMULAS[name]
    return Measurement(statistics, formula, better, headline, labels)


def measure(task: str, texts: Sequence[LabeledText], predictions: Sequence[dict[str, Any]]) -> dict[str, Measurement]:
    """The metrics of predictions, by name, the main one first.

    Args:
        task: `classify`, `multilabel`, `regress` or `tag`.
        texts: N texts with their targets.
        predictions: N predictions; see `TaskModel.predict`.
    """
    statistics = _STATISTICS[task](texts, predictions)
    gold = {label for text in texts for label in _gold_labels(text)}
    number = len(gold) if gold else None
    return {
        name: measurement(name, values, name == HEADLINES[task], number if name == HEADLINES[task] else None)
        for name, values in statistics.items()
    }


def _gold_labels(text: LabeledText) -> list[str]:
    return [*([text.label] if text.label is not None else []), *text.labels, *(span.label for span in text.entities)]


def _stacked(*columns: Any) -> Floats:
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _classified(texts: Sequence[LabeledText], predictions: Sequence[dict[str, Any]]) -> dict[str, Floats]:
    measured = label_metrics([str(text.label) for text in texts], [prediction["label"] for prediction in predictions])
    return {name: measured[f"label_{name}"].statistics for name in ("accuracy", "macro_f1")}


def _multilabel(
    texts: Sequence[LabeledText],
    predictions: Sequence[dict[str, Any]],
) -> dict[str, Floats]:
    pairs = [(set(text.labels), set(row["labels"])) for text, row in zip(texts, predictions, strict=True)]
    counts = [(len(gold & predicted), len(gold), len(predicted)) for gold, predicted in pairs]
    exact = [gold == predicted for gold, predicted in pairs]
    return {
        "micro_f1": np.array(counts, dtype=np.float64).reshape(-1, 3),
        "exact_match": _stacked(exact, np.ones(len(texts))),
    }


def _regressed(
    texts: Sequence[LabeledText],
    predictions: Sequence[dict[str, Any]],
) -> dict[str, Floats]:
    gold = np.array([text.value for text in texts], dtype=np.float64)
    predicted = np.array([prediction["value"] for prediction in predictions], dtype=np.float64)
    return {
        "pearson": _moments(gold, predicted),
        "spearman": _moments(_ranks(gold), _ranks(predicted)),
        "mean_absolute_error": _stacked(np.abs(gold - predicted), np.ones(len(texts))),
    }


def _moments(x: Floats, y: Floats) -> Floats:
    x, y = x - x.mean(), y - y.mean()  # correlations do not change, and the sums keep more digits
    return _stacked(np.ones(len(x)), x, y, x * x, y * y, x * y)


def _ranks(values: Floats) -> Floats:
    """Ranks (N,), equal values with their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Floats = (ends - (counts - 1) / 2)[inverse].astype(np.float64)
    return means


def _tagged(
    texts: Sequence[LabeledText],
    predictions: Sequence[dict[str, Any]],
) -> dict[str, Floats]:
    rows = []
    for text, prediction in zip(texts, predictions, strict=True):
        gold = {(span.start, span.end, span.label) for span in text.entities}
        predicted = {(span["start"], span["end"], span["label"]) for span in prediction["entities"]}
        rows.append((len(gold & predicted), len(gold), len(predicted)))
    counts = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return {
        "entity_f1": counts,
        "entity_precision": counts[:, [0, 2]],
        "entity_recall": counts[:, [0, 1]],
    }


_STATISTICS = {"classify": _classified, "multilabel": _multilabel, "regress": _regressed, "tag": _tagged}
