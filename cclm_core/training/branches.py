"""The objectives of one training over one encoder: their weights, their gradients, and bodies of their own.

```
ids → encoder ─┬→ objective                                     a head on the shared features
               ├→ gradient_factor → objective                   the same, with a scaled gradient into the encoder
               └→ gradient_factor → body → objective            a component that is trained jointly
```

All objectives of a step are one graph: their losses are summed, and there is one backward pass and one optimizer step.

| setting | scales the gradient of |
|---|---|
| `loss_weight` | everything: the head, the body and the shared encoder |
| `gradient_factor` | the shared encoder alone. The head and the body get their full gradient |
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cclm_core.encoders.base import Encoder
from cclm_core.objectives.base import Objective
from cclm_core.training.schedules import ConstantConfig, Schedule, factor_at


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One objective over a shared encoder.

    Attributes:
        objective: the objective, with its head.
        loss_weight: factor of its loss. With 0 it is measured on held-out text, but not trained.
        gradient_factor: factor of the gradient that it sends into the shared encoder, for each step.
        body: an encoder of its own between the shared features (B, L, W) and its head; None for none.
        name: selects the seeds of its corruption, so that the order of named branches does not matter. None: its
            position does.
    """

    objective: Objective
    loss_weight: float = 1.0
    gradient_factor: Schedule = field(default_factory=ConstantConfig)
    body: Encoder | None = None
    name: str | None = None

    def sends_gradient(self, step: int) -> bool:
        """Whether the shared encoder gets a gradient from this objective at step `step` (from 0)."""
        return self.loss_weight > 0 and factor_at(self.gradient_factor, step) > 0

    def learns(self) -> bool:
        """Whether a weight of its head or body is trained."""
        modules: list[nn.Module] = [self.objective, *([] if self.body is None else [self.body])]
        return self.loss_weight > 0 and any(
            parameter.requires_grad for module in modules for parameter in module.parameters()
        )

    def is_idle(self, step: int) -> bool:
        """Whether the step `step` (from 0) would change no weight: then the objective costs nothing."""
        return not self.sends_gradient(step) and not self.learns()

    def read(self, features: Tensor, ids: Tensor, starts: Tensor | None, step: int) -> Tensor:
        """What the head reads: the shared features, with their gradient scaled, through the body.

        Args:
            features: (B, L, W) from the shared encoder.
            ids: (B, L) int64, 0 for padding.
            starts: (B, L) bool, true where words start, for a body that reads words.
            step: number of the step, from 0.
        """
        features = scale_gradient(features, factor_at(self.gradient_factor, step))
        if self.body is None:
            return features
        encoded: Tensor = self.body(features, ids != 0, starts)
        return encoded


def in_canonical_order(branches: Sequence[Branch]) -> list[Branch]:
    """Branches without a name in their order, then named ones by name: sums of floats depend on their order."""
    unnamed = [branch for branch in branches if branch.name is None]
    return unnamed + sorted(
        (branch for branch in branches if branch.name is not None), key=lambda branch: branch.name or ""
    )


def scale_gradient(features: Tensor, factor: float) -> Tensor:
    """`features`, unchanged, but with a gradient that is multiplied by `factor` ≥ 0.

    With the factor 0, nothing before `features` is computed in the backward pass.

    >>> weight = torch.ones(1, requires_grad=True)
    >>> (3 * scale_gradient(weight, 0.5)).backward()
    >>> weight.grad
    tensor([1.5000])
    """
    if factor == 1:
        return features
    if factor == 0:
        return features.detach()
    scaled: Tensor = _Scaled.apply(features, factor)  # type: ignore[no-untyped-call]
    return scaled


class _Scaled(torch.autograd.Function):
    """The identity, with a scaled gradient."""

    @staticmethod
    def forward(context: Any, features: Tensor, factor: float) -> Tensor:
        """The features."""
        context.factor = factor
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The scaled gradient."""
        return gradient * context.factor, None
