"""Checkpoints: one safetensors file each, complete, atomic, checked before use, two kept.

A checkpoint belongs to one identity (configuration, data, base, code): another identity starts anew.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cclm_core.runtime.errors import TrainingError
from cclm_core.runtime.files import atomic_write, try_lock

_KEPT = 2


class Checkpoint(NamedTuple):
    """The state after `step` steps: tensors by name, and `facts`, any JSON value."""

    step: int
    tensors: dict[str, Tensor]
    facts: Any


class Checkpoints:
    """The checkpoints of one training, in a folder of their own below `folder`.

    Args:
        folder: where checkpoints of this stage live; it is no output of the stage.
        identity: what the training is; checkpoints of another identity are not seen, and are removed on saving.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.parent, self.folder = folder, folder / identity[:16]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps a second trainer of the same stage out, one whose starter was killed included.

        Raises:
            TrainingError: another process holds the training.
        """
        busy = TrainingError(
            f"{self.parent.name} is being trained by another process; wait until it finishes, or end it."
        )
        with try_lock(self.parent.with_name(f".{self.parent.name}.lock"), busy):
            yield

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint beside, flushes it, renames it; then removes all but the newest two.

        What a killed process left half written goes too.
        """
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
        """The newest checkpoint whose bytes match the digest in its name; a damaged one is passed over."""
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
