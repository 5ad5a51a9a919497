"""Linear probes on frozen features: standardize, then fit by cross-entropy with a fixed, seeded recipe."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cclm_core.runtime.config import Config

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

_FLAT = 1e-5  # a feature that varies less carries no information; dividing by its deviation would amplify rounding


class LinearProbeConfig(Config):
    """How a linear probe is fitted: cross-entropy, Adam with decoupled weight decay, learning rate falling to 0."""

    steps: int = Field(default=800, ge=1, description="steps, whatever the number of rows")
    batch_rows: int = Field(default=512, ge=1, description="rows per step")
    learning_rate: float = Field(default=0.01, gt=0, le=1, description="of the first step")
    weight_decay: float = Field(default=0.1, ge=0, description="decoupled, times the learning rate")


class Scale(NamedTuple):
    """Means and inverse deviations of features, each (W,)."""

    mean: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Scale":
        """The scale of `features` (N, W); one that does not vary is mapped to 0."""
        deviation = features.std(dim=0, correction=0)
        inverse = torch.where(deviation > _FLAT, 1 / deviation.clamp_min(_FLAT), 0)
        return cls(features.mean(dim=0), inverse)

    def __call__(self, features: Tensor) -> Tensor:
        """Standardized `features` (..., W)."""
        return (features - self.mean) * self.inverse


class LinearProbe(NamedTuple):
    """Class scores of features: `scale`, then `weight` (W, C) and `bias` (C,)."""

    scale: Scale
    weight: Tensor
    bias: Tensor

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, C), in nats, of `features` (N, W)."""
        scores = torch.addmm(self.bias, self.scale(features), self.weight)
        return torch.log_softmax(scores, dim=-1)

    def widened(self, columns: Tensor, width: int) -> "LinearProbe":
        """The same probe on features (N, `width`), of which it was fitted on `columns`; the others have no effect."""
        narrow = {"mean": self.scale.mean, "inverse": self.scale.inverse, "weight": self.weight}
        wide = {name: values.new_zeros(width, *values.shape[1:]) for name, values in narrow.items()}
        for name, values in narrow.items():
            wide[name][columns] = values
        return LinearProbe(Scale(wide["mean"], wide["inverse"]), wide["weight"], self.bias)


def fit(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    num_classes: int,
    config: LinearProbeConfig,
    generator: np.random.Generator,
) -> LinearProbe:
    """Fits a softmax classifier by minibatches.

    Starts from zero weights and the log-frequencies of the classes, so that only the order of the rows is random.

    Args:
        features: (N, W), N at least 1.
        targets: (N,) int64 classes.
        weights: (N,) number of rows that each row represents.
        num_classes: C.
    """
    scale = Scale.of(features)
    weight = torch.zeros(features.shape[1], num_classes, requires_grad=True)
    frequencies = torch.zeros(num_classes).index_add_(0, targets, weights) + 0.02
    bias = torch.log(frequencies / frequencies.sum()).requires_grad_()
    optimizer = torch.optim.AdamW(
        [{"params": [weight], "weight_decay": config.weight_decay}, {"params": [bias], "weight_decay": 0.0}],
        lr=config.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / config.steps)
    mean_weight = weights.mean()
    batches = _batches(len(features), config.batch_rows, generator)
    for rows in islice(batches, config.steps):
        scores = torch.addmm(bias, scale(features[rows]), weight)
        losses = torch.nn.functional.cross_entropy(scores, targets[rows], reduction="none")
        loss = (losses * weights[rows]).mean() / mean_weight
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return LinearProbe(scale, weight.detach(), bias.detach())


def _batches(num_rows: int, batch_rows: int, generator: np.random.Generator) -> Iterator[Tensor]:
    """Rows (at most `batch_rows`,) without end: every epoch in a new order."""
    while True:
        yield from torch.split(torch.from_numpy(generator.permutation(num_rows)), batch_rows)


class PenalizedProbe(NamedTuple):
    """Logistic regression with an L2 penalty: see `fit_penalized`.

    Attributes:
        scale: of features (N, W).
        model: scikit-learn's, fitted on standardized features.
    """

    scale: Scale
    model: "LogisticRegression"

    @property
    def labels(self) -> list[str]:
        """The labels that it was fitted on, sorted."""
        return [str(label) for label in self.model.classes_]

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, C) float64, in nats, of `features` (N, W)."""
        with one_blas_thread():
            scores = torch.from_numpy(self.model.decision_function(self.scale(features.double()).numpy()))
        if scores.ndim == 1:  # two labels: of the second against the first
            scores = torch.stack([torch.zeros_like(scores), scores], dim=1)
        return torch.log_softmax(scores, dim=1)

    def predict(self, features: Tensor) -> list[str]:
        """The label of each row of `features` (N, W)."""
        return [self.labels[number] for number in self.log_probabilities(features).argmax(dim=1).tolist()]


def fit_penalized(features: Tensor, labels: Sequence[str], penalty: float) -> PenalizedProbe:
    """Multinomial logistic regression with an L2 penalty, to convergence; deterministic.

    For few rows with many features. Minimizes the mean cross-entropy + penalty / 2 · W · |weight|² over standardized
    features, so that a penalty has the same effect for any width W.

    Source: scikit-learn's LogisticRegression (L-BFGS in float64).

    Args:
        features: (N, W), N at least 1.
        labels: (N,), at least two different ones.
        penalty: L2 strength, above 0.
    """
    from sklearn.linear_model import LogisticRegression

    scale = Scale.of(features.double())
    # scikit-learn minimizes C · sum of the cross-entropies + |weight|² / 2. For two labels it fits one weight vector,
    # the difference of the two that the multinomial form has: its square is twice theirs together.
    strength = (2 if len(set(labels)) == 2 else 1) / (penalty * features.shape[1] * len(features))
    model = LogisticRegression(C=strength, tol=1e-6, max_iter=1000)
    with one_blas_thread():
        return PenalizedProbe(scale, model.fit(scale(features.double()).numpy(), list(labels)))


def one_blas_thread() -> AbstractContextManager[Any]:
    """Limits BLAS to one thread, because the number of threads can change the last bits."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # a dependency of scikit-learn

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits
