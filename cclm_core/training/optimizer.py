"""AdamW with warm-up and decay: optimizer steps, and the optimizer state as plain tensors."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from cclm_core.objectives.base import Example
from cclm_core.runtime.device import autocast, device_of
from cclm_core.runtime.errors import TrainingError
from cclm_core.training.config import TrainingConfig


def build_optimizer(
    model: nn.Module, config: TrainingConfig, factors: Mapping[str, float] | None = None
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of `model`, with weight decay on matrices only.

    `factors` maps names of parameters to factors of their learning rate; the others have the factor 1. Embedding tables
    also have the factor `table_rate`, and no weight decay if `table_decay` is false.

    Muon for the inner matrices of the default base learned less in the same CPU time, at three learning rates and one
    seed: its steps take 0.30 s instead of 0.23 s and gain less than that (benchmarks/optimizers.py).
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    by_factor: dict[float, tuple[list[nn.Parameter], list[nn.Parameter]]] = {1.0: ([], [])}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_table = id(parameter) in tables
            factor = (factors or {}).get(name, 1.0) * (config.table_rate if is_table else 1.0)
            decays = parameter.ndim >= 2 and (config.table_decay or not is_table)
            decayed, others = by_factor.setdefault(factor, ([], []))
            (decayed if decays else others).append(parameter)
    groups = []
    for factor, (decayed, others) in sorted(by_factor.items(), key=lambda item: item[0], reverse=True):
        groups.append({"params": decayed, "weight_decay": config.weight_decay, "factor": factor})
        groups.append({"params": others, "weight_decay": 0.0, "factor": factor})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The learning rate of step `step` (from 0): linear warm-up, then the decay of `schedule` to 0.

    Source: the decay after a flat phase as in Hägele et al. 2024 (arXiv 2405.18392, "1-sqrt").
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    if config.schedule == "linear":
        return config.learning_rate * (1 - share)
    if config.schedule == "flat":
        decay_steps = max(1.0, config.decay_share * config.steps)
        done = (step - (config.steps - decay_steps)) / decay_steps
        return config.learning_rate * (1 - math.sqrt(min(1.0, max(0.0, done))))
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as tensors named `PARAMETER.STATE`, with the parameter's number: `12.exp_avg`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restores the state of an optimizer from the tensors that `optimizer_tensors` returned."""
    state = optimizer.state_dict()
    state["state"] = {}
    for name, value in tensors.items():
        number, entry = name.split(".", 1)
        state["state"].setdefault(int(number), {})[entry] = value
    optimizer.load_state_dict(state)


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[list[Example]],
    config: TrainingConfig,
    step: int,
) -> float:
    """One optimizer step with the clipped mean gradient of `batches`. Returns their mean loss.

    Args:
        model: maps a list of examples to their loss and metrics.
        optimizer: from `build_optimizer`, or another one, without factors.
        batches: the accumulated batches, each with one example per objective.
        config: schedule, precision and clipping.
        step: number of the step, from 0.

    Raises:
        TrainingError: a loss or the gradient is not finite. No weight has changed. The message gives the number of the
            batch in `Windows.batch`.
    """
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for number, examples in enumerate(batches):
        with autocast(device_of(model), config.precision):
            loss, _ = model(examples)
        (loss if len(batches) == 1 else loss / len(batches)).backward()
        value = float(loss.detach())  # waits for the GPU, so it comes after all work is submitted
        if not math.isfinite(value):
            raise _not_finite("loss", value, step, f"batch {step * len(batches) + number}")
        total += value
    norm = float(nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), config.gradient_clip))
    if not math.isfinite(norm):
        first, last = step * len(batches), (step + 1) * len(batches) - 1
        where = f"batch {first}" if first == last else f"batches {first} to {last}"
        raise _not_finite("gradient norm", norm, step, where)
    for group in optimizer.param_groups:
        group["lr"] = group.get("factor", 1.0) * learning_rate(step, config)
    optimizer.step()
    return total / len(batches)


def _not_finite(quantity: str, value: float, step: int, where: str) -> TrainingError:
    return TrainingError(
        f"the {quantity} must be finite, got {value} at step {step + 1} ({where}). Lower training.learning_rate or use "
        "precision fp32. The newest checkpoint is kept."
    )
