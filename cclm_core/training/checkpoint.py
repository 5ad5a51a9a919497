"""Checkpoints: one safetensors file each, written atomically, verified before use; the newest two are kept.

A checkpoint belongs to one identity (configuration, data, base, code). Another identity starts from the beginning.
`Progress` is the state of a training apart from weights and optimizer; `to_checkpoint` and `from_checkpoint` convert
all of it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from cclm_core.runtime.errors import TrainingError
from cclm_core.runtime.files import atomic_write, try_lock
from cclm_core.training.module import Point
from cclm_core.training.optimizer import load_optimizer_tensors, optimizer_tensors

_KEPT = 2


class Checkpoint(NamedTuple):
    """The state after `step` steps: tensors by name, and `facts`, any JSON value."""

    step: int
    tensors: dict[str, Tensor]
    facts: Any


class Checkpoints:
    """The checkpoints of one training, in a subfolder of `folder`.

    Args:
        folder: the checkpoints of this stage; not an output of the stage.
        identity: digest of all that the training depends on. Checkpoints of another identity are ignored, and removed
            when one is saved.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.parent, self.folder = folder, folder / identity[:16]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Prevents a second process from training the same stage, even one whose parent was killed.

        Raises:
            TrainingError: another process is training it.
        """
        busy = TrainingError(
            f"{self.parent.name} is being trained by another process. Wait until it finishes, or stop it."
        )
        with try_lock(self.parent.with_name(f".{self.parent.name}.lock"), busy):
            yield

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint atomically, then removes all but the newest two, and what a killed process left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for other in self.parent.iterdir():
            if other != self.folder and other.is_dir():
                _remove(other)
        facts = json.dumps({"step": checkpoint.step, "facts": checkpoint.facts})
        content = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}, {"cclm": facts}
        )
        name = f"step-{checkpoint.step:08d}-{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
        atomic_write(self.folder / name, content)
        for path in [*self._newest_first()[_KEPT:], *self.folder.glob(".*.writing")]:
            path.unlink()

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint whose bytes match the digest in its name. Damaged ones are skipped."""
        for path in self._newest_first():
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest()[:32] != path.stem.rsplit("-", 1)[1]:
                continue
            try:
                tensors = load(content)
            except SafetensorError:
                continue
            return Checkpoint(tensors=tensors, **_facts(content))
        return None

    def clear(self) -> None:
        """Removes all checkpoints of this stage: its result is published."""
        if self.parent.is_dir():
            for folder in self.parent.iterdir():
                _remove(folder)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True) if self.folder.is_dir() else []


def _facts(content: bytes) -> Mapping[str, Any]:
    header_size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_size])
    facts: dict[str, Any] = json.loads(header["__metadata__"]["cclm"])
    return facts


def _remove(folder: Path) -> None:
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()


class Progress:
    """The learning curve so far, and its best evaluation.

    Attributes:
        curve: one point per evaluation.
        losses: one training loss per step since the last point.
        best_step, best_value: the evaluation with the lowest selection value; None before the first.
        since_best: number of evaluations since then.
        best: a copy of the weights at that evaluation, on the CPU; empty if they are not kept.
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
        """All of it but the best weights, as JSON values."""
        names = ("curve", "losses", "best_step", "best_value", "since_best")
        return {name: getattr(self, name) for name in names}

    def add(self, point: Point) -> None:
        """Appends a point to the curve and clears `losses`."""
        self.curve.append(point)
        self.losses.clear()

    def compare(self, value: float, model: nn.Module, keep: bool) -> None:
        """Compares the newest evaluation with the best one; copies the weights if it is better and `keep`."""
        if self.best_value is not None and value >= self.best_value:
            self.since_best += 1
            return
        self.best_step, self.best_value, self.since_best = int(self.curve[-1]["step"]), value, 0
        if keep:
            self.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def to_checkpoint(step: int, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> Checkpoint:
    """The whole state of a training after `step` steps: weights, optimizer, best weights and progress."""
    groups = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer), "best": progress.best}
    tensors = {f"{group}.{name}": value for group, some in groups.items() for name, value in some.items()}
    return Checkpoint(step, tensors, progress.facts())


def from_checkpoint(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Restores the weights and the optimizer; returns the progress."""
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}}
    for name, tensor in checkpoint.tensors.items():
        group, rest = name.split(".", 1)
        groups[group][rest] = tensor
    model.load_state_dict(groups["model"])
    load_optimizer_tensors(optimizer, groups["optimizer"])
    return Progress(checkpoint.facts, groups["best"])
