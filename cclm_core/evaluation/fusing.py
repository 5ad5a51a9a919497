"""Joining the scores of several models: equal weights, one weight per model, or weights that depend on the text.

```
classify, tag   log-probabilities are added, then normalized
multilabel      log-odds are added, per label
regress         weighted mean
```

The weight of part i for a text is exp(bias_i + slope_i · z), where z are two standardized estimates of how noisy the
text looks; see `finetuning.familiarity`. With `equal` weights all biases and slopes are equal: z changes only how sure
the answer is. With `fixed` weights the slopes are equal, so that the ratio of two weights is the same for every text.
Without estimates, weights have no slopes.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from cclm_core.evaluation.metrics import Floats
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.config import Config

Kind = Literal["equal", "fixed", "by_text"]
KINDS: tuple[Kind, ...] = ("equal", "fixed", "by_text")
"""The kinds of weights, the simplest first."""

_PENALTY = 1e-3  # on differences between the weights of parts, and on their slopes; the loss is in nats per text
_MAX_Z = 3.0  # standard deviations; texts that look stranger get the weights of this value
_MAX_EXPONENT = 20.0
_MAX_ITERATIONS = 100


class Weights(Config):
    """The weights of P parts: exp(bias), or exp(bias + slope · z) if there are slopes."""

    kind: Kind
    bias: tuple[float, ...] = Field(description="one per part")
    slope: tuple[tuple[float, ...], ...] = Field(
        default=(), description="per part, one per estimate; empty: weights are not fitted"
    )
    mean: tuple[float, ...] = Field(default=(), description="mean of each estimate on the validation texts")
    deviation: tuple[float, ...] = Field(default=(), description="standard deviation of each estimate")

    @model_validator(mode="after")
    def _check(self) -> Self:
        width, parts = (len(self.mean), len(self.bias)) if self.slope else (0, 0)
        sizes = [len(self.slope) == parts, len(self.mean) == len(self.deviation) == width]
        if not all(sizes) or any(len(row) != width for row in self.slope) or any(one <= 0 for one in self.deviation):
            raise ValueError(f"weights with slopes need {parts} rows of {width} slopes, {width} means and deviations")
        return self

    @classmethod
    def even(cls, parts: int) -> "Weights":
        """Weights 1 / P, which need no fitting."""
        return cls(kind="equal", bias=(-float(np.log(parts)),) * parts)

    def of(self, measures: Floats) -> Floats:
        """The weights (N, P) for texts with estimates (N, Z)."""
        raw = np.tile(np.array(self.bias), (len(measures), 1))
        if self.slope:
            raw = raw + standardized(measures, self.mean, self.deviation) @ np.array(self.slope).T
        return _exp(raw)


class Rows(NamedTuple):
    """Scores of texts with their targets.

    Args:
        scores: (P, R, K) scores of P parts: a row per text, or per word for `tag`.
        targets: (R,) int64 numbers of labels or tags, (R, K) 0 or 1 for `multilabel`, or (R,) values for `regress`.
        owners: (R,) the number of the text of each row.
        measures: (N, Z) estimates of the noise of N texts.
        weights: (N,) weight of each text in the loss.
    """

    scores: Floats
    targets: npt.NDArray[Any]
    owners: npt.NDArray[np.int64]
    measures: Floats
    weights: Floats

    def of_texts(self, selected: npt.NDArray[np.bool_]) -> "Rows":
        """The rows of some texts, (N,) bool."""
        rows = selected[self.owners]
        numbers = np.cumsum(selected) - 1
        return Rows(
            self.scores[:, rows],
            self.targets[rows],
            numbers[self.owners[rows]],
            self.measures[selected],
            self.weights[selected],
        )

    def of_parts(self, parts: Sequence[int]) -> "Rows":
        """The scores of some parts."""
        return self._replace(scores=self.scores[list(parts)])


def standardized(measures: Floats, mean: Sequence[float], deviation: Sequence[float]) -> Floats:
    """Estimates (N, Z) in standard deviations from their mean, between -3 and 3."""
    scaled: Floats = np.clip((measures - np.array(mean)) / np.array(deviation), -_MAX_Z, _MAX_Z)
    return scaled


def fuse(task: LabeledTask, scores: Floats, weights: Floats) -> Floats:
    """The joined scores (R, K).

    Args:
        task: the kind of task.
        scores: (P, R, K).
        weights: (R, P), not negative.
    """
    joined = np.einsum("prk,rp->rk", scores, weights)
    if task == "regress":
        mean: Floats = joined / weights.sum(axis=1, keepdims=True)
        return mean
    if task == "multilabel":
        return np.asarray(joined)
    shifted = joined - joined.max(axis=1, keepdims=True, initial=-np.inf)
    normalized: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalized


def losses(task: LabeledTask, joined: Floats, rows: Rows) -> Floats:
    """The loss of each text (N,): nats of its label or labels, mean nats of its tags, or squared error."""
    values, _ = _losses(task, joined, rows)
    totals = np.bincount(rows.owners, weights=values, minlength=len(rows.measures))
    counts = np.bincount(rows.owners, minlength=len(rows.measures))
    return np.asarray(totals / np.maximum(counts, 1))


def fit(task: LabeledTask, kind: Kind, rows: Rows, start: Weights | None = None) -> Weights:
    """The weights with the lowest mean loss, with a small penalty on differences between parts. Deterministic.

    The common factor of all weights calibrates the probabilities.

    Args:
        task: the kind of task.
        kind: the kind of weights.
        rows: scores and targets.
        start: weights to start from, of the same kind.
    """
    return fit_with_bonus(task, kind, rows, start, with_bonus=False)[0]


def fit_with_bonus(
    task: LabeledTask, kind: Kind, rows: Rows, start: Weights | None = None, with_bonus: bool = True
) -> tuple[Weights, float]:
    """Like `fit`, and for tags also the bonus of all tags except O, in nats, with the lowest loss; 0 `with_bonus` off.

    Entities are rare, and a probe can be too sure or too unsure of all of them. Without the bonus, the weights of parts
    would correct that.
    """
    from scipy.optimize import minimize

    parts = len(rows.scores)
    if task == "regress" and kind == "equal":
        return Weights.even(parts), 0.0
    mean, deviation = rows.measures.mean(0), rows.measures.std(0)
    deviation = np.where(deviation > 1e-9, deviation, 1.0)
    if start is not None and start.slope:  # of the same estimates, so that slopes keep their meaning
        mean, deviation = np.array(start.mean), np.array(start.deviation)
    measures = standardized(rows.measures, mean.tolist(), deviation.tolist())
    problem = _Problem(task, kind, rows, measures, with_bonus)
    first = problem.start(start or Weights.even(parts))
    found = minimize(problem, first, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS, "ftol": 1e-7})
    values, bonus = problem.split(found.x)
    bias, slope = problem.parameters(values)
    weights = Weights(
        kind=kind,
        bias=tuple(bias.tolist()),
        slope=tuple(map(tuple, slope.tolist())),
        mean=tuple(mean.tolist()),
        deviation=tuple(deviation.tolist()),
    )
    return weights, bonus


class _Problem:
    """The penalized loss and its gradient, as a function of the parameters of one kind of weights.

    Written out by hand: with these few parameters, most of the time of automatic differentiation would be overhead.
    """

    def __init__(self, task: LabeledTask, kind: Kind, rows: Rows, measures: Floats, with_bonus: bool = False) -> None:
        self.task, self.kind, self.rows, self.with_bonus = task, kind, rows, with_bonus
        self.measures = measures[rows.owners]
        # Each text counts by its weight, however many rows it has.
        counts = np.bincount(rows.owners, minlength=len(rows.weights))
        shares = rows.weights / rows.weights[counts > 0].sum()
        self.shares = (shares / np.maximum(counts, 1))[rows.owners]

    def start(self, weights: Weights) -> Floats:
        """The parameters of given weights."""
        parts, width = len(self.rows.scores), self.measures.shape[1]
        slope = np.array(weights.slope) if weights.slope else np.zeros((parts, width))
        num_biases, num_slopes = 1 if self.kind == "equal" else parts, parts if self.kind == "by_text" else 1
        return np.concatenate([weights.bias[:num_biases], slope[:num_slopes].ravel(), [0.0] * self.with_bonus])

    def split(self, values: Floats) -> tuple[Floats, float]:
        """The parameters of the weights, and the bonus of all tags except O."""
        return (values[:-1], float(values[-1])) if self.with_bonus else (values, 0.0)

    def parameters(self, values: Floats) -> tuple[Floats, Floats]:
        """Biases (P,) and slopes (P, Z)."""
        parts, width = len(self.rows.scores), self.measures.shape[1]
        num_biases, num_slopes = 1 if self.kind == "equal" else parts, parts if self.kind == "by_text" else 1
        slopes = values[num_biases:].reshape(num_slopes, width)
        return np.broadcast_to(values[:num_biases], parts), np.broadcast_to(slopes, (parts, width))

    def __call__(self, values: Floats) -> tuple[float, Floats]:
        """The loss and its gradient at some parameters."""
        values, bonus = self.split(values)
        bias, slope = self.parameters(values)
        scores = self.rows.scores
        weights = _exp(bias + self.measures @ slope.T)
        joined = np.einsum("prk,rp->rk", scores, weights)
        total = weights.sum(axis=1)
        if self.task == "regress":
            joined = joined / total[:, None]
        if self.with_bonus:
            joined[:, 1:] += bonus
        loss, slopes = _losses(self.task, joined, self.rows)
        slopes *= self.shares[:, None]
        if self.task == "regress":
            by_weight = (slopes * (scores[:, :, 0].T - joined)) / total[:, None]
        else:
            by_weight = np.einsum("prk,rk->rp", scores, slopes)
        own = by_weight * weights
        by_bias, by_slope = own.sum(axis=0), own.T @ self.measures
        bias_gap, slope_mean = bias - bias.mean(), slope.mean(axis=0)
        slope_gap = slope - slope_mean
        penalty = (bias_gap**2).sum() + (slope_gap**2).sum() + (slope_mean**2).sum()
        by_bias = by_bias + 2 * _PENALTY * bias_gap
        by_slope = by_slope + 2 * _PENALTY * (slope_gap + slope_mean / len(scores))
        if self.kind == "equal":
            by_bias = by_bias.sum(keepdims=True)
        if self.kind != "by_text":
            by_slope = by_slope.sum(axis=0, keepdims=True)
        value = float((loss * self.shares).sum() + _PENALTY * penalty)
        return value, np.concatenate([by_bias, by_slope.ravel(), [slopes[:, 1:].sum()] * self.with_bonus])


def _exp(raw: Floats) -> Floats:
    """The exponential, without overflow for what a line search tries."""
    weights: Floats = np.exp(np.clip(raw, -_MAX_EXPONENT, _MAX_EXPONENT))
    return weights


def _losses(task: LabeledTask, joined: Floats, rows: Rows) -> tuple[Floats, Floats]:
    """The loss of each row (R,), and its gradient (R, K) by the joined scores."""
    targets = rows.targets
    if task == "regress":
        gap = joined[:, 0] - targets
        return gap**2, 2 * gap[:, None]
    if task == "multilabel":
        from scipy.special import expit

        # log(1 + exp(x)) - x y, and its derivative sigmoid(x) - y
        return (np.logaddexp(0, joined) - joined * targets).sum(axis=1), expit(joined) - targets
    shifted = joined - joined.max(axis=1, keepdims=True, initial=-np.inf)
    exponents = np.exp(shifted)
    sums = exponents.sum(axis=1, keepdims=True)
    every = np.arange(len(joined))
    gradient = exponents / sums
    gradient[every, targets] -= 1
    return np.log(sums[:, 0]) - shifted[every, targets], gradient
