"""Training checkpoints: safetensors files, written atomically and verified before use. The newest two are kept.

A checkpoint belongs to one identity (configuration, data, base, code). A training with another identity starts over.
`Progress` is the training state other than weights and optimizer. `to_checkpoint` and `from_checkpoint` convert the
whole state.
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
from cclm_core.training.average import Average
from cclm_core.training.optimizer import load_optimizer_tensors, optimizer_tensors
from cclm_core.training.trainee import Point

_MAX_CHECKPOINTS = 2


class Checkpoint(NamedTuple):
    """The training state after `step` steps: tensors by name, and `metadata`, any JSON value."""

    step: int
    tensors: dict[str, Tensor]
    metadata: Any


class Checkpoints:
    """The checkpoints of one training, in a subfolder of `folder`.

    Args:
        folder: the folder for checkpoints of this stage. It is not an output of the stage.
        identity: digest of everything that the training depends on. Checkpoints of other identities are ignored, and
            deleted by the next `save`.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.parent, self.folder = folder, folder / identity[:16]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the lock of this stage, so that only one process trains it.

        Raises:
            TrainingError: another process holds the lock. It may have outlived a killed parent.
        """
        busy = TrainingError(
            f"{self.parent.name} is being trained by another process. Wait until it finishes, or stop it."
        )
        with try_lock(self.parent.with_name(f".{self.parent.name}.lock"), busy):
            yield

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint atomically. Deletes all but the newest two, and partial files of killed processes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in self.parent.iterdir():
            if folder != self.folder and folder.is_dir():
                _remove(folder)
        header = json.dumps({"step": checkpoint.step, "metadata": checkpoint.metadata})
        content = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}, {"cclm": header}
        )
        name = f"step-{checkpoint.step:08d}-{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
        atomic_write(self.folder / name, content)
        for path in [*self._newest_first()[_MAX_CHECKPOINTS:], *self.folder.glob(".*.writing")]:
            path.unlink()

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint whose bytes match the digest in its name. Damaged files are skipped."""
        for path in self._newest_first():
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest()[:32] != path.stem.rsplit("-", 1)[1]:
                continue
            try:
                return Checkpoint(tensors=load(content), **_header(content))
            except (SafetensorError, ValueError, LookupError, TypeError, RecursionError):
                continue
        return None

    def clear(self) -> None:
        """Deletes all checkpoints of this stage, once its result is published."""
        if self.parent.is_dir():
            for folder in self.parent.iterdir():
                _remove(folder)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True) if self.folder.is_dir() else []


def _header(content: bytes) -> Mapping[str, Any]:
    """Step and metadata of a checkpoint, from the header of its safetensors file."""
    header_size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_size])
    own = json.loads(header["__metadata__"]["cclm"])
    if not isinstance(own["step"], int) or own["step"] < 0:
        raise ValueError(f"`step` must be a number of steps, got {own['step']!r:.80}.")
    return {"step": own["step"], "metadata": own["metadata"]}


def _remove(folder: Path) -> None:
    for path in folder.glob("*"):
        path.unlink()
    folder.rmdir()


class Progress:
    """The learning curve so far, and its best evaluation.

    Attributes:
        curve: one point per evaluation.
        losses: the training loss of each step since the last point.
        best_step, best_value: step and selection value of the best evaluation, the one with the lowest value. 0 and
            None before the first comparison.
        since_best: number of evaluations since the best one.
        best: copy of the weights at the best evaluation, on the CPU; empty if they are not kept.
    """

    def __init__(self, metadata: Mapping[str, Any] | None = None, best: dict[str, Tensor] | None = None) -> None:
        metadata = metadata or {"curve": [], "losses": [], "best_step": 0, "best_value": None, "since_best": 0}
        self.curve: list[Point] = metadata["curve"]
        self.losses: list[float] = metadata["losses"]
        self.best_step: int = metadata["best_step"]
        self.best_value: float | None = metadata["best_value"]
        self.since_best: int = metadata["since_best"]
        self.best = best or {}

    def metadata(self) -> dict[str, Any]:
        """Everything except the best weights, as JSON values."""
        names = ("curve", "losses", "best_step", "best_value", "since_best")
        return {name: getattr(self, name) for name in names}

    def add(self, point: Point) -> None:
        """Appends a point to the curve and clears `losses`."""
        self.curve.append(point)
        self.losses.clear()

    def compare(self, value: float, model: nn.Module, keep: bool) -> None:
        """Compares the newest evaluation with the best one. Copies the weights if it is better and `keep` is set."""
        if self.best_value is not None and value >= self.best_value:
            self.since_best += 1
            return
        self.best_step, self.best_value, self.since_best = int(self.curve[-1]["step"]), value, 0
        if keep:
            self.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def to_checkpoint(
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    average: Average | None = None,
) -> Checkpoint:
    """The whole training state after `step` steps: weights, optimizer, average, best weights and progress."""
    groups = {
        "model": model.state_dict(),
        "optimizer": optimizer_tensors(optimizer),
        "average": average.tensors if average is not None else {},
        "best": progress.best,
    }
    tensors = {f"{group}.{name}": value for group, members in groups.items() for name, value in members.items()}
    return Checkpoint(step, tensors, progress.metadata())


def from_checkpoint(
    checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None
) -> Progress:
    """Restores the weights, the optimizer and the average; returns the progress.

    Raises:
        TrainingError: the checkpoint belongs to another model or optimizer.
    """
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "average": {}, "best": {}}
    try:
        for name, tensor in checkpoint.tensors.items():
            group, rest = name.split(".", 1)
            groups[group][rest] = tensor
        progress = Progress(checkpoint.metadata, groups["best"])
        model.load_state_dict(groups["model"])
        load_optimizer_tensors(optimizer, groups["optimizer"])
        if average is not None:
            average.load(groups["average"])
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        raise TrainingError(
            f"the checkpoint after step {checkpoint.step} does not belong to this training: {error}. Delete the folder "
            "of checkpoints to start over."
        ) from None
    return progress
