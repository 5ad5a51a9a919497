"""Metrics: a figure with its direction, its confidence interval and the baselines it is compared with.

A probe returns a `Measurement`: per-document statistics and the function that turns their sums into the figure. So the
figure and its confidence interval come from the same formula, and resampling documents costs no new predictions.
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
_CELLS = 1 << 20  # of the resampling matrix that are held at once


@dataclass(frozen=True)
class Measurement:
    """A figure and what each document contributes to it.

    Attributes:
        statistics: (N, S) sums of each document, e.g. its numbers of correct, predicted and gold spans.
        figure: maps sums (R, S) over the documents of R samples to their figures (R,).
        better: which direction is an improvement.
        headline: whether tables and plots show the figure by default.
    """

    statistics: Floats
    figure: Callable[[Floats], Floats]
    better: Better = "higher"
    headline: bool = False

    @property
    def value(self) -> float:
        """The figure of all documents."""
        return float(self.figure(self.statistics.sum(axis=0, keepdims=True))[0]) + 0.0  # never -0.0

    def loss_without(self, without: "Measurement") -> "Measurement":
        """How much worse the figure is in `without`, measured on the same documents; positive means worse.

        >>> whole, rest = ratio([3, 1], [4, 4]), ratio([2, 1], [4, 4])
        >>> whole.loss_without(rest).value
        0.125
        """
        width, sign = self.statistics.shape[1], 1 if self.better == "higher" else -1

        def figure(sums: Floats) -> Floats:
            return sign * (self.figure(sums[:, :width]) - without.figure(sums[:, width:]))

        return Measurement(np.hstack([self.statistics, without.statistics]), figure, "higher", self.headline)


def ratio(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, better: Better = "higher", headline: bool = False
) -> Measurement:
    """The sum of `numerators` (N,) over the sum of `denominators` (N,); 0 where nothing is counted.

    >>> ratio([1, 0, 1], [1, 1, 1]).value
    0.6666666666666666
    """
    statistics = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)], axis=1)
    return Measurement(statistics, lambda sums: quotient(sums[:, 0], sums[:, 1]), better, headline)


def quotient(numerators: Floats, denominators: Floats) -> Floats:
    """`numerators` over `denominators`, element by element; 0 where the denominator is 0."""
    return np.divide(numerators, denominators, out=np.zeros_like(numerators), where=denominators != 0)


class Bootstrap(Config):
    """Percentile bootstrap over documents.

    Documents, not characters, are resampled: characters of one document are not independent of each other. Equal
    numbers of documents are resampled alike, so that the intervals of two compositions are comparable.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """

    resamples: int = Field(default=1000, ge=10, description="samples of documents, with replacement")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="share of them that the interval covers")

    def interval(self, measurement: Measurement, seed: int) -> tuple[float, float] | None:
        """The confidence interval of a measurement; None for fewer than two documents."""
        statistics = measurement.statistics
        number = len(statistics)
        if number < 2:
            return None
        generator = derive(seed, "evaluation", "bootstrap")
        rows = max(1, _CELLS // number)
        figures = []
        for first in range(0, self.resamples, rows):
            drawn = generator.integers(number, size=(min(rows, self.resamples - first), number))
            weights = np.stack([np.bincount(sample, minlength=number) for sample in drawn]).astype(np.float64)
            # einsum without BLAS: the number of threads must not decide the last bits.
            figures.append(measurement.figure(np.einsum("rn,ns->rs", weights, statistics)))
        tail = 50 * (1 - self.confidence)
        low, high = np.percentile(np.concatenate(figures), [tail, 100 - tail]) + 0.0
        return float(low), float(high)


class Baseline(Config):
    """The figure of a baseline: `name`, e.g. `ngrams`, and `value`."""

    name: str
    value: float


class Metric(Config):
    """A figure as it is published in evaluation.json."""

    value: int | float
    better: Better | None = Field(default=None, description="which direction is an improvement; None: neither")
    interval: tuple[float, float] | None = Field(default=None, description="confidence interval: low, high")
    documents: int | None = Field(default=None, description="number of documents that were measured")
    baselines: tuple[Baseline, ...] = Field(default=(), description="what it is compared with, the main one first")
    headline: bool = Field(default=False, description="whether tables and plots show it by default")


def published(
    measurement: Measurement, baselines: Mapping[str, Measurement], bootstrap: Bootstrap, seed: int
) -> Metric:
    """The metric of a measurement, compared with the same metric of `baselines`, by name."""
    return Metric(
        value=measurement.value,
        better=measurement.better,
        interval=bootstrap.interval(measurement, seed),
        documents=len(measurement.statistics),
        baselines=tuple(Baseline(name=name, value=other.value) for name, other in baselines.items()),
        headline=measurement.headline,
    )


def read_metrics(folder: Path) -> dict[str, Metric]:
    """The metrics in the evaluation.json of a published evaluation, by name; none if it has no such file.

    Raises:
        ConfigError: an entry is no metric.
    """
    path = folder / EVALUATION_FILE
    entries = read_json(path).get("metrics", {}) if path.is_file() else {}
    return {name: Metric.parse(entry, f"{path}: metrics.{name}") for name, entry in entries.items()}


def best(values: Sequence[float | None], better: Better | None) -> int | None:
    """The position of the best of `values`; None where there is no direction or nothing to compare.

    >>> best([0.5, None, 0.7], "higher"), best([2.5, 2.7], "lower"), best([0.5], "higher")
    (2, 0, None)
    """
    known = [place for place, value in enumerate(values) if value is not None]
    if better is None or len(known) < 2:
        return None
    sign = 1 if better == "higher" else -1
    return max(known, key=lambda place: sign * (values[place] or 0.0))
