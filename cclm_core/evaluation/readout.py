"""Linear readouts on frozen features: standardise, then fit by cross-entropy with a fixed, seeded recipe."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cclm_core.evaluation.config import ReadoutConfig

_FLAT = 1e-5  # a feature that varies less tells nothing; dividing by its deviation would make noise of rounding


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
        """Standardised `features` (..., W)."""
        return (features - self.mean) * self.inverse


class Readout(NamedTuple):
    """Class scores of features: `scale`, then `weight` (W, C) and `bias` (C,)."""

    scale: Scale
    weight: Tensor
    bias: Tensor

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, C), in nats, of `features` (N, W)."""
        scores = torch.addmm(self.bias, self.scale(features), self.weight)
        return torch.log_softmax(scores, dim=-1)

    def spread(self, columns: Tensor, width: int) -> "Readout":
        """The same readout, of features (N, `width`) of which it was fitted on `columns`; the others count nothing."""
        wide = {"mean": self.scale.mean, "inverse": self.scale.inverse, "weight": self.weight}
        spread = {name: values.new_zeros(width, *values.shape[1:]) for name, values in wide.items()}
        for name, values in wide.items():
            spread[name][columns] = values
        return Readout(Scale(spread["mean"], spread["inverse"]), spread["weight"], self.bias)


def fit(
    features: Tensor,
    targets: Tensor,
    weights: Tensor,
    num_classes: int,
    config: ReadoutConfig,
    generator: np.random.Generator,
) -> Readout:
    """Fits a softmax readout by minibatches.

    Starts from zero weights and the log-frequencies of the classes, so that nothing but the order of the rows is
    drawn.

    Args:
        features: (N, W), N at least 1.
        targets: (N,) int64 classes.
        weights: (N,) how many rows each row stands for.
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
    return Readout(scale, weight.detach(), bias.detach())


def _batches(num_rows: int, batch_rows: int, generator: np.random.Generator) -> Iterator[Tensor]:
    """Rows (at most `batch_rows`,) without end: all in a new order, again and again."""
    while True:
        yield from torch.split(torch.from_numpy(generator.permutation(num_rows)), batch_rows)


def fit_penalised(features: Tensor, targets: Tensor, num_classes: int, penalty: float) -> Readout:
    """Multinomial logistic regression with an L2 penalty, to convergence (L-BFGS in float64; no randomness).

    For few rows with many features. Minimises the mean cross-entropy + penalty / 2 · |weight|² / W.

    Args:
        features: (N, W), N at least 1.
        targets: (N,) int64 classes.
    """
    scale = Scale.of(features.double())
    scaled = scale(features.double())
    width = features.shape[1]
    weight = torch.zeros(width, num_classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=200, tolerance_grad=1e-6, history_size=10, line_search_fn="strong_wolfe"
    )
    # Weights are fitted in units of 1 / sqrt(W), so that a penalty means the same for any width.
    root = width**-0.5

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = torch.addmm(bias, scaled, weight * root)
        loss = torch.nn.functional.cross_entropy(scores, targets) + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return Readout(scale, (weight * root).detach(), bias.detach())
