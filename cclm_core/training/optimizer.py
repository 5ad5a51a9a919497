"""AdamW with warm-up and cosine decay, whose state saves and loads as plain tensors."""

import math

import torch
from torch import Tensor, nn

from cclm_core.training.config import TrainingConfig


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of `model`; only matrices decay.

    Muon for the matrices inside of the default base learnt less in the same processor time, at three learning rates
    and one seed: its steps take 0.30 s against 0.23 s on a CPU, and gain less than that (benchmarks/optimizers.py).
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The learning rate of step `step` (from 0): linear warm-up, then a cosine down to 0 at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as tensors named `number of the parameter.name of the state`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` took out."""
    whole = optimizer.state_dict()
    whole["state"] = {}
    for name, value in tensors.items():
        number, entry = name.split(".", 1)
        whole["state"].setdefault(int(number), {})[entry] = value
    optimizer.load_state_dict(whole)
