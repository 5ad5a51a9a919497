"""Linear probes: classifiers on standardized frozen features, fitted with cross-entropy and a fixed seed."""

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

_MIN_DEVIATION = 1e-5  # features that vary less carry no information; dividing by less would amplify rounding errors


class LinearProbeConfig(Config):
    """How to fit a linear probe: cross-entropy, AdamW, learning rate decaying linearly to 0."""

    steps: int = Field(default=800, ge=1, description="optimizer steps, independent of the number of rows")
    batch_rows: int = Field(default=512, ge=1, description="rows per step")
    learning_rate: float = Field(default=0.01, gt=0, le=1, description="learning rate of the first step")
    weight_decay: float = Field(default=0.1, ge=0, description="decoupled weight decay")


class Scale(NamedTuple):
    """Standardization: means and inverse standard deviations of features, each (W,)."""

    mean: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Scale":
        """The scale of `features` (N, W). It maps constant features to 0."""
        deviation = features.std(dim=0, correction=0)
        inverse = torch.where(deviation > _MIN_DEVIATION, 1 / deviation.clamp_min(_MIN_DEVIATION), 0)
        return cls(features.mean(dim=0), inverse)

    def __call__(self, features: Tensor) -> Tensor:
        """Standardized `features` (..., W)."""
        return (features - self.mean) * self.inverse


class LinearProbe(NamedTuple):
    """A softmax classifier: scores = scale(features) @ `weight` (W, C) + `bias` (C,)."""

    scale: Scale
    weight: Tensor
    bias: Tensor

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, C), in nats, of `features` (N, W)."""
        scores = torch.addmm(self.bias, self.scale(features), self.weight)
        return torch.log_softmax(scores, dim=-1)

    def widened(self, columns: Tensor, width: int) -> "LinearProbe":
        """The same probe for features (N, `width`), given that it was fitted on their `columns` (W,).

        The other features get zero weights.
        """
        narrow = {"mean": self.scale.mean, "inverse": self.scale.inverse, "weight": self.weight}
        wide = {name: values.new_zeros(width, *values.shape[1:]) for name, values in narrow.items()}
        for name, values in narrow.items():
            wide[name][columns] = values
        return LinearProbe(Scale(wide["mean"], wide["inverse"]), wide["weight"], self.bias)

    @classmethod
    def weighted_sum(cls, probes: Sequence["LinearProbe"], weights: Sequence[float]) -> "LinearProbe":
        """The probe whose scores are the weighted sum of those of probes that read different features; see `widened`.

        So are its log-probabilities, up to normalization: late fusion of linear probes is a linear probe.
        """
        mean, inverse = (
            torch.stack(values).sum(dim=0) for values in zip(*(probe.scale for probe in probes), strict=True)
        )
        weight, bias = (
            torch.stack([factor * values for factor, values in zip(weights, own, strict=True)]).sum(dim=0)
            for own in ([probe.weight for probe in probes], [probe.bias for probe in probes])
        )
        return cls(Scale(mean, inverse), weight, bias)


def fit(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    num_classes: int,
    config: LinearProbeConfig,
    generator: np.random.Generator,
) -> LinearProbe:
    """Fits a softmax classifier with minibatches.

    Weights start at zero and biases at the class log-frequencies, so only the order of the rows is random.

    Args:
        features: (N, W) with N ≥ 1.
        targets: (N,) int64 classes.
        weights: (N,) weight of each row in the loss.
        num_classes: C.
        config: steps, learning rate and weight decay.
        generator: shuffles the rows.
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
    """Endless batches of row numbers, each of at most `batch_rows`. The order is new in every epoch."""
    while True:
        yield from torch.split(torch.from_numpy(generator.permutation(num_rows)), batch_rows)


class PenalizedProbe(NamedTuple):
    """Logistic regression with an L2 penalty: see `fit_penalized`.

    Attributes:
        scale: standardizes features (N, W).
        model: the scikit-learn model, fitted on standardized features.
    """

    scale: Scale
    model: "LogisticRegression"

    @property
    def labels(self) -> list[str]:
        """The labels in the training data, sorted."""
        return [str(label) for label in self.model.classes_]

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, C) float64, in nats, of `features` (N, W)."""
        with one_blas_thread():
            scores = torch.from_numpy(self.model.decision_function(self.scale(features.double()).numpy()))
        if scores.ndim == 1:  # with two labels: the score of the second one against the first
            scores = torch.stack([torch.zeros_like(scores), scores], dim=1)
        return torch.log_softmax(scores, dim=1)

    def predict(self, features: Tensor) -> list[str]:
        """The label of each row of `features` (N, W)."""
        return [self.labels[number] for number in self.log_probabilities(features).argmax(dim=1).tolist()]


def fit_penalized(
    features: Tensor, labels: Sequence[str], penalty: float, factors: Tensor | None = None
) -> PenalizedProbe:
    """Multinomial logistic regression with an L2 penalty, fitted to convergence. Deterministic.

    Suits few rows with many features. On standardized features, it minimizes

        mean cross-entropy + penalty / 2 · W · |weight|²

    The factor W gives a penalty the same effect at any width.

    Source: scikit-learn's LogisticRegression (L-BFGS in float64).

    Args:
        features: (N, W) with N ≥ 1.
        labels: (N,) with at least two distinct labels.
        penalty: L2 strength, above 0.
        factors: (W,) multiply the standardized features, so that the weights of those with larger factors are penalized
            less; None: all are 1.
    """
    from sklearn.linear_model import LogisticRegression

    scale = Scale.of(features.double())
    if factors is not None:
        scale = scale._replace(inverse=scale.inverse * factors)
    # scikit-learn minimizes C · sum of the cross-entropies + |weight|² / 2. For two labels it fits a single weight
    # vector v, the difference of the two multinomial ones w and -w: |v|² = |2w|² is twice |w|² + |-w|².
    strength = (2 if len(set(labels)) == 2 else 1) / (penalty * features.shape[1] * len(features))
    model = LogisticRegression(C=strength, tol=1e-6, max_iter=1000)
    with one_blas_thread():
        return PenalizedProbe(scale, model.fit(scale(features.double()).numpy(), list(labels)))


def one_blas_thread() -> AbstractContextManager[Any]:
    """Limits BLAS to one thread, since the number of threads can change the last bits."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # a dependency of scikit-learn

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits
