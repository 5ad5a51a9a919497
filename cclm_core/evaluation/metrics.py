"""Metrics: values with direction, confidence interval and baselines.

A probe returns a `Measurement`: statistics per document, and the function from their sums to the value. So the value
and its confidence interval come from the same formula, and bootstrapping needs no new predictions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.config import Config
from cclm_core.runtime.random import derive

Floats = npt.NDArray[np.float64]
Better = Literal["higher", "lower"]

EVALUATION_FILE = "evaluation.json"
_CELLS = 1 << 20  # size of the resampling matrix in memory


@dataclass(frozen=True)
class Measurement:
    """A metric as a function of per-document statistics.

    Attributes:
        statistics: (N, S) statistics of each document, such as the numbers of correct, predicted and gold spans.
        formula: maps sums of statistics (R, S), one row per bootstrap sample, to values (R,).
        better: which direction is an improvement.
        headline: whether tables and plots show the metric by default.
        labels: number of distinct gold labels in the documents; None if the metric has none.
    """

    statistics: Floats
    formula: Callable[[Floats], Floats]
    better: Better = "higher"
    headline: bool = False
    labels: int | None = None

    @property
    def documents(self) -> int:
        """N, the number of measured documents."""
        return len(self.statistics)

    @property
    def value(self) -> float:
        """The value over all documents."""
        return float(self.formula(self.statistics.sum(axis=0, keepdims=True))[0]) + 0.0  # never -0.0

    def loss_without(self, without: "Measurement") -> "Measurement":
        """How much worse `without` is than this measurement. Positive means worse. Both need the same documents.

        >>> whole, rest = ratio([3, 1], [4, 4]), ratio([2, 1], [4, 4])
        >>> whole.loss_without(rest).value
        0.125
        """
        width, sign = self.statistics.shape[1], 1 if self.better == "higher" else -1

        def formula(sums: Floats) -> Floats:
            """Difference of both values, from the sums of both, next to each other."""
            return sign * (self.formula(sums[:, :width]) - without.formula(sums[:, width:]))

        return Measurement(np.hstack([self.statistics, without.statistics]), formula, "higher", self.headline)


def ratio(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    better: Better = "higher",
    headline: bool = False,
    labels: int | None = None,
) -> Measurement:
    """The sum of `numerators` (N,) divided by the sum of `denominators` (N,); 0 if the denominator is 0.

    >>> ratio([1, 0, 1], [1, 1, 1]).value
    0.6666666666666666
    """
    statistics = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)], axis=1)
    return Measurement(statistics, lambda sums: quotient(sums[:, 0], sums[:, 1]), better, headline, labels)


def quotient(numerators: Floats, denominators: Floats) -> Floats:
    """Elementwise `numerators` / `denominators`; 0 where the denominator is 0."""
    return np.divide(numerators, denominators, out=np.zeros_like(numerators), where=denominators != 0)


def f1(sums: Floats) -> Floats:
    """F1 (R,) from the numbers (R, 3) of correct, gold and predicted items."""
    return quotient(2 * sums[:, 0], sums[:, 1] + sums[:, 2])


def macro_f1(sums: Floats) -> Floats:
    """Mean F1 (R,) of the labels that occur, from the numbers (R, 3C) of correct, gold and predicted texts."""
    correct, gold, predicted = np.split(sums, 3, axis=1)
    occurs = gold > 0
    scores = quotient(2 * correct, gold + predicted) * occurs
    return quotient(scores.sum(axis=1), occurs.sum(axis=1).astype(np.float64))


class Bootstrap(Config):
    """Percentile bootstrap over documents.

    It resamples documents rather than characters, since characters of a document are not independent. The samples
    depend only on the seed and the number of documents, so the intervals of two compositions are comparable.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """

    resamples: int = Field(default=1000, ge=10, description="number of bootstrap samples")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="confidence level of the interval")

    def interval(self, measurement: Measurement, seed: int) -> tuple[float, float] | None:
        """The confidence interval (low, high) of a measurement; None with fewer than two documents."""
        statistics = measurement.statistics
        number = len(statistics)
        if number < 2:
            return None
        generator = derive(seed, "evaluation", "bootstrap")
        rows = max(1, _CELLS // number)
        values = []
        for first in range(0, self.resamples, rows):
            drawn = generator.integers(number, size=(min(rows, self.resamples - first), number))
            weights = np.stack([np.bincount(sample, minlength=number) for sample in drawn]).astype(np.float64)
            # einsum does not use BLAS here, so the number of threads cannot change the last bits.
            values.append(measurement.formula(np.einsum("rn,ns->rs", weights, statistics)))
        tail = 50 * (1 - self.confidence)
        low, high = np.percentile(np.concatenate(values), [tail, 100 - tail]) + 0.0
        return float(low), float(high)


class Baseline(Config):
    """The value that a baseline reaches, such as `ngrams`."""

    name: str
    value: float


class Metric(Config):
    """A metric as published in evaluation.json."""

    value: int | float
    better: Better | None = Field(default=None, description="which direction is an improvement; None: neither")
    interval: tuple[float, float] | None = Field(default=None, description="confidence interval: low, high")
    documents: int | None = Field(default=None, description="number of measured documents")
    labels: int | None = Field(default=None, description="number of distinct gold labels in these documents")
    baselines: tuple[Baseline, ...] = Field(default=(), description="baselines to compare with, the main one first")
    headline: bool = Field(default=False, description="whether tables and plots show it by default")


def to_metric(
    measurement: Measurement, baselines: Mapping[str, Measurement], bootstrap: Bootstrap, seed: int
) -> Metric:
    """The metric of a measurement, with its interval and the values of `baselines`, given by name."""
    return Metric(
        value=measurement.value,
        better=measurement.better,
        interval=bootstrap.interval(measurement, seed),
        documents=measurement.documents,
        labels=measurement.labels,
        baselines=tuple(Baseline(name=name, value=baseline.value) for name, baseline in baselines.items()),
        headline=measurement.headline,
    )


def measured_on(metric: Metric) -> str:
    """What a metric is measured on, for tables and plots; "" if that is unknown.

    >>> measured_on(Metric(value=0.5, documents=1008, labels=77))
    '1,008 documents, 77 labels'
    """
    counts = (("document", metric.documents), ("label", metric.labels))
    return ", ".join(f"{number:,} {noun}{'' if number == 1 else 's'}" for noun, number in counts if number is not None)


def read_metrics(folder: Path) -> dict[str, Metric]:
    """The metrics in the evaluation.json of a published evaluation, by name; empty if the file does not exist.

    Raises:
        ConfigError: an entry is not a metric.
    """
    path = folder / EVALUATION_FILE
    entries = read_json(path).get("metrics", {}) if path.is_file() else {}
    return {name: Metric.parse(entry, f"{path}: metrics.{name}") for name, entry in entries.items()}


def best(values: Sequence[float | None], better: Better | None) -> int | None:
    """The index of the best of `values`; None without a direction or with fewer than two values.

    >>> best([0.5, None, 0.7], "higher"), best([2.5, 2.7], "lower"), best([0.5], "higher")
    (2, 0, None)
    """
    known = [index for index, value in enumerate(values) if value is not None]
    if better is None or len(known) < 2:
        return None
    sign = 1 if better == "higher" else -1
    return max(known, key=lambda index: sign * (values[index] or 0.0))
