"""Joining the scores of several models: equal weights, one weight per model, or weights that depend on the text.

```
classify, tag   log-probabilities are added, then normalized
multilabel      log-odds are added, per label
regress         weighted mean
```

With `by_text`, the weight of part i for a text is softplus(bias_i + slope_i · z), where z are two standardized
estimates of how noisy the text looks; see `familiarity`.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor

from cclm_core.finetuning.any_model import Floats
from cclm_core.finetuning.familiarity import NUM_MEASURES
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.config import Config

Kind = Literal["equal", "fixed", "by_text"]
KINDS: tuple[Kind, ...] = ("equal", "fixed", "by_text")
"""The kinds of weights, the simplest first."""

_PENALTY = 1e-3  # on differences between the weights of parts, and on their slopes; the loss is in nats per text
_MAX_Z = 3.0  # standard deviations; texts that look stranger get the weights of this value
_MAX_ITERATIONS = 100


class Weights(Config):
    """The weights of P parts.

    They are softplus(bias), or softplus(bias + slope · z) if there are slopes.
    """

    kind: Kind
    bias: tuple[float, ...] = Field(description="one per part")
    slope: tuple[tuple[float, ...], ...] = Field(default=(), description="per part, one per estimate; for by_text")
    mean: tuple[float, ...] = Field(default=(), description="mean of each estimate on the validation texts")
    deviation: tuple[float, ...] = Field(default=(), description="standard deviation of each estimate")

    @model_validator(mode="after")
    def _check(self) -> Self:
        width = NUM_MEASURES if self.kind == "by_text" else 0
        parts = len(self.bias) if self.kind == "by_text" else 0
        sizes = [len(self.slope) == parts, len(self.mean) == len(self.deviation) == width]
        if not all(sizes) or any(len(row) != width for row in self.slope) or any(one <= 0 for one in self.deviation):
            raise ValueError(f"weights of the kind {self.kind} need {parts} rows of {width} slopes, and {width} scales")
        return self

    @classmethod
    def even(cls, parts: int) -> "Weights":
        """Weights 1 / P, which need no fitting."""
        return cls(kind="equal", bias=(float(np.log(np.expm1(1 / parts))),) * parts)

    def of(self, measures: Floats) -> Floats:
        """The weights (N, P) for texts with estimates (N, Z)."""
        raw = np.tile(np.array(self.bias), (len(measures), 1))
        if self.slope:
            raw = raw + standardized(measures, self.mean, self.deviation) @ np.array(self.slope).T
        weights: Floats = np.logaddexp(0, raw)
        return weights


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
    values = _losses(task, torch.from_numpy(joined), rows).numpy()
    totals = np.bincount(rows.owners, weights=values, minlength=len(rows.measures))
    counts = np.bincount(rows.owners, minlength=len(rows.measures))
    return np.asarray(totals / np.maximum(counts, 1))


def fit(task: LabeledTask, kind: Kind, rows: Rows, start: Weights | None = None) -> Weights:
    """The weights with the lowest mean loss, with a small penalty on differences between parts. Deterministic.

    A single part, and equal weights, get one common factor, so that probabilities are calibrated.

    Args:
        task: the kind of task.
        kind: the kind of weights.
        rows: scores and targets.
        start: weights to start from, of the same kind.
    """
    from scipy.optimize import minimize

    parts = len(rows.scores)
    if task == "regress" and kind == "equal":
        return Weights.even(parts)
    mean, deviation = rows.measures.mean(0), rows.measures.std(0)
    deviation = np.where(deviation > 1e-9, deviation, 1.0)
    if start is not None and start.slope:  # of the same estimates, so that slopes keep their meaning
        mean, deviation = np.array(start.mean), np.array(start.deviation)
    problem = _Problem(task, kind, rows, standardized(rows.measures, mean, deviation))  # type: ignore[arg-type]
    first = problem.start(start or Weights.even(parts))
    found = minimize(problem, first, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS, "ftol": 1e-7})
    bias, slope = problem.parameters(torch.from_numpy(found.x))
    values: dict[str, Any] = {"kind": kind, "bias": tuple(bias.tolist())}
    if kind == "by_text":
        values |= {"slope": tuple(map(tuple, slope.tolist()))}
        values |= {"mean": tuple(mean.tolist()), "deviation": tuple(deviation.tolist())}
    return Weights(**values)


class _Problem:
    """The penalized loss and its gradient, as a function of the parameters of one kind of weights."""

    def __init__(self, task: LabeledTask, kind: Kind, rows: Rows, measures: Floats) -> None:
        self.task, self.kind, self.rows = task, kind, rows
        self.scores = torch.from_numpy(rows.scores)
        self.measures = torch.from_numpy(measures)
        self.owners = torch.from_numpy(rows.owners)
        # Each text counts by its weight, however many rows it has.
        counts = np.bincount(rows.owners, minlength=len(rows.weights))
        shares = rows.weights / rows.weights[counts > 0].sum()
        self.shares = torch.from_numpy((shares / np.maximum(counts, 1))[rows.owners])

    def start(self, weights: Weights) -> Floats:
        """The parameters of given weights."""
        if self.kind == "equal":
            return np.array(weights.bias[:1])
        slope = np.array(weights.slope).ravel() if weights.slope else np.zeros(self._slopes)
        return np.concatenate([weights.bias, slope])

    def parameters(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Biases (P,) and slopes (P, Z)."""
        parts, width = len(self.scores), self.measures.shape[1]
        if self.kind == "equal":
            return values.expand(parts), values.new_zeros(parts, width)
        slopes = values[parts:].view(parts, width) if self.kind == "by_text" else values.new_zeros(parts, width)
        return values[:parts], slopes

    def __call__(self, values: Floats) -> tuple[float, Floats]:
        """The loss and its gradient at some parameters."""
        given = torch.from_numpy(values).requires_grad_()
        bias, slope = self.parameters(given)
        weights = torch.nn.functional.softplus(bias + self.measures @ slope.T)
        joined = torch.einsum("prk,rp->rk", self.scores, weights[self.owners])
        if self.task == "regress":
            joined = joined / weights[self.owners].sum(1, keepdim=True)
        loss = (_losses(self.task, joined, self.rows) * self.shares).sum()
        loss = loss + _PENALTY * (((bias - bias.mean()) ** 2).sum() + (slope**2).sum())
        (gradient,) = torch.autograd.grad(loss, given)
        return float(loss.detach()), gradient.numpy()

    @property
    def _slopes(self) -> int:
        return len(self.scores) * self.measures.shape[1] if self.kind == "by_text" else 0


def _losses(task: LabeledTask, joined: Tensor, rows: Rows) -> Tensor:
    """The loss of each row (R,)."""
    targets = torch.from_numpy(rows.targets)
    if task == "regress":
        return (joined[:, 0] - targets) ** 2
    if task == "multilabel":
        odds = torch.nn.functional.binary_cross_entropy_with_logits(joined, targets, reduction="none")
        return odds.sum(1)
    return torch.nn.functional.cross_entropy(joined, targets, reduction="none")
