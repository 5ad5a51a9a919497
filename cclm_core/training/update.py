"""One optimizer step: gradients of one or several batches, clipped, at the learning rate of the schedule."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from cclm_core.objectives.base import Example
from cclm_core.runtime.device import autocast, device_of
from cclm_core.runtime.errors import TrainingError
from cclm_core.training.config import TrainingConfig
from cclm_core.training.optimizer import learning_rate


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[list[Example]],
    config: TrainingConfig,
    step: int,
) -> float:
    """Step `step` (from 0) over the mean gradient of its batches; returns their mean loss.

    Raises:
        TrainingError: a loss or the gradient is not finite; nothing is updated then. The batch is named by the number
            that `Windows.batch` draws it by.
    """
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for place, examples in enumerate(batches):
        with autocast(device_of(model), config.precision):
            loss, _ = model(examples)
        (loss if len(batches) == 1 else loss / len(batches)).backward()
        value = float(loss.detach())  # a GPU is waited for here, when it has got all its work
        if not math.isfinite(value):
            raise _not_finite("loss", value, step, f"batch {step * len(batches) + place}")
        total += value
    norm = float(nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), config.gradient_clip))
    if not math.isfinite(norm):
        first, last = step * len(batches), (step + 1) * len(batches) - 1
        place_of = f"batch {first}" if first == last else f"batches {first} to {last}"
        raise _not_finite("norm of the gradient", norm, step, place_of)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    optimizer.step()
    return total / len(batches)


def _not_finite(what: str, value: float, step: int, where: str) -> TrainingError:
    return TrainingError(
        f"the {what} must be finite, but it is {value} at step {step + 1} ({where}); lower training.learning_rate or "
        "use precision fp32. The newest checkpoint is kept."
    )
