"""What a training knows beside its weights, and how all of its state goes into a checkpoint and back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cclm_core.training.checkpoint import Checkpoint
from cclm_core.training.optimizer import load_optimizer_tensors, optimizer_tensors

Point = dict[str, float]


class Progress:
    """The learning curve so far, and the best evaluation on it.

    Attributes:
        curve: a point for each evaluation.
        losses: the training losses since the last point, one a step.
        best_step, best_value: the evaluation with the lowest figure; None before the first.
        since_best: evaluations since then.
        best: a copy of the weights at that evaluation, on the CPU, where they are kept; else nothing.
    """

    def __init__(self, facts: Mapping[str, Any] | None = None, best: dict[str, Tensor] | None = None) -> None:
        facts = facts or {"curve": [], "losses": [], "best_step": 0, "best_value": None, "since_best": 0}
        self.curve: list[Point] = facts["curve"]
        self.losses: list[float] = facts["losses"]
        self.best_step: int = facts["best_step"]
        self.best_value: float | None = facts["best_value"]
        self.since_best: int = facts["since_best"]
        self.best = best or {}

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds of it, beside the best weights."""
        names = ("curve", "losses", "best_step", "best_value", "since_best")
        return {name: getattr(self, name) for name in names}

    def add(self, point: Point) -> None:
        """Ends the stretch that `losses` covers with a point of the curve."""
        self.curve.append(point)
        self.losses.clear()

    def judge(self, value: float, model: nn.Module, keep: bool) -> None:
        """Looks at the figure of the newest evaluation; keeps a copy of the weights if it is the best and `keep`."""
        if self.best_value is not None and value >= self.best_value:
            self.since_best += 1
            return
        self.best_step, self.best_value, self.since_best = int(self.curve[-1]["step"]), value, 0
        if keep:
            self.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def to_checkpoint(step: int, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> Checkpoint:
    """All that a training is after `step` steps, the last weights and the best ones."""
    groups = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer), "best": progress.best}
    tensors = {f"{group}.{name}": value for group, some in groups.items() for name, value in some.items()}
    return Checkpoint(step, tensors, progress.facts())


def from_checkpoint(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Puts weights and optimizer state back; returns the rest."""
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}}
    for name, tensor in checkpoint.tensors.items():
        group, rest = name.split(".", 1)
        groups[group][rest] = tensor
    model.load_state_dict(groups["model"])
    load_optimizer_tensors(optimizer, groups["optimizer"])
    return Progress(checkpoint.facts, groups["best"])
