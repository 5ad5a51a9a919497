"""The training module: an encoder and the objectives that read its features."""

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import Example, Objective, Sums
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.random import derive
from cclm_core.training.branches import Branch, in_canonical_order
from cclm_core.training.trainee import Point, Trainee


class TrainingModule(Trainee):
    """An encoder, and the objectives that read its features: one graph, one sum of losses.

    Args:
        encoder: maps ids (B, L) to features (B, L, W).
        objectives: pairs of an objective and its loss weight, or branches; see `training.branches`. The order of
            branches with names does not matter.

    Raises:
        ConfigError: an objective needs a causal encoder and this one is not causal.
    """

    def __init__(self, encoder: nn.Module, objectives: Sequence[tuple[Objective, float] | Branch]) -> None:
        super().__init__()
        self.branches = in_canonical_order(
            [
                part if isinstance(part, Branch) else Branch(objective=part[0], loss_weight=part[1])
                for part in objectives
            ]
        )
        for branch in self.branches:
            _check_causal(encoder, branch)
        self.encoder = encoder
        self.objectives = nn.ModuleList(branch.objective for branch in self.branches)
        # With a prefix, because ModuleDict has attributes of its own, such as `keys`.
        self.bodies = nn.ModuleDict({f"of_{part.name}": part.body for part in self.branches if part.body is not None})
        kinds = [type(branch.objective) for branch in self.branches]
        # Objectives of the same kind have the same metric names: append their name or number.
        self.suffixes = [
            f"_{branch.name or number}" if kinds.count(kind) > 1 else ""
            for number, (kind, branch) in enumerate(zip(kinds, self.branches, strict=True), start=1)
        ]
        self._step = 0

    @property
    def described(self) -> str:
        """The name of the first objective."""
        return type(self.objectives[0]).__name__

    def begin_step(self, step: int) -> None:
        """See `Trainee.begin_step`: schedules of gradients depend on the step."""
        self._step = step

    def examples(self, batch: WindowBatch, training: bool, seed: int, *names: str | int) -> list[Example]:
        """One example per objective; see `Trainee.examples`."""
        return [
            branch.objective.example(batch, derive(seed, *names, branch.name or number), training)
            for number, branch in enumerate(self.branches)
        ]

    def forward(self, examples: list[Example]) -> tuple[Tensor, dict[str, Sums]]:
        """The weighted loss () and the metrics of `examples`, one per objective, moved to the device of the weights.

        With gradients, objectives that would change no weight at this step are left out.

        Raises:
            TrainingError: no objective would change a weight.
        """
        device, losses = device_of(self), []
        metrics: dict[str, Sums] = {}
        is_training = torch.is_grad_enabled()
        for suffix, branch, example in zip(self.suffixes, self.branches, examples, strict=True):
            if is_training and branch.is_idle(self._step):
                continue
            moved = example.to(device)
            loss, values = branch.objective.loss(self._features(branch, moved.ids, is_training), moved)
            losses.append(branch.loss_weight * loss)
            metrics |= {f"{name}{suffix}": value for name, value in values.items()}
        if not losses:
            raise TrainingError(
                f"step {self._step + 1} would change no weight: every objective has loss_weight or gradient_factor 0 "
                "and a frozen head. Unfreeze one."
            )
        return sum(losses[1:], losses[0]), metrics

    def _features(self, branch: Branch, ids: Tensor, is_training: bool) -> Tensor:
        """What the head of a branch reads. The encoder runs without gradients if it would get none."""
        with nullcontext() if not is_training or branch.sends_gradient(self._step) else torch.no_grad():
            features: Tensor = self.encoder(ids)
        reads_words = branch.body is not None and branch.body.reads_words
        starts: Tensor | None = cast("Any", self.encoder).word_starts(ids) if reads_words else None
        return branch.read(features, ids, starts, self._step)

    def selection_value(self, point: Point) -> float:
        """The weighted sum of the selection metrics of the objectives; lower is better.

        Raises:
            TrainingError: the held-out windows contain no target for an objective.
        """
        total = 0.0
        for suffix, branch in zip(self.suffixes, self.branches, strict=True):
            name = f"held_out_{branch.objective.selection_metric}{suffix}"
            if name not in point:
                raise TrainingError(
                    f"cannot select the best weights: the held-out windows contain no target for "
                    f"{type(branch.objective).__name__}. Raise training.evaluation_windows, add text to the validation "
                    "split, or set keep: last and patience: null."
                )
            total += branch.loss_weight * point[name]
        return total


def _as_branch(part: tuple[Objective, float] | Branch) -> Branch:
    return part if isinstance(part, Branch) else Branch(objective=part[0], loss_weight=part[1])


def _check_causal(encoder: nn.Module, branch: Branch) -> None:
    is_causal = getattr(encoder, "causal", False) and (branch.body is None or branch.body.causal)
    if branch.objective.needs_causal and not is_causal:
        raise ConfigError(
            f"the objective {type(branch.objective).__name__} predicts later characters and needs a causal encoder; "
            f"{getattr(encoder, 'described', 'this encoder')} is not. Set `causal: true` in the configuration "
            "of the encoder."
        )


def compile_encoder(encoder: nn.Module, device: torch.device) -> None:
    """Applies torch.compile to an encoder in place. Weights and their names do not change.

    Compiled code rounds differently, so `compile` is part of the training configuration. It rarely pays off: with the
    default base, batches of 32 x 256 characters, bf16 and one thread of an AMD EPYC, torch 2.13 compiled for 80 s of
    CPU time and each step became 1 to 4 % faster.

    Raises:
        ConfigError: no compiler is installed.
    """
    missing = _missing_compiler(device)
    if missing:
        raise ConfigError(f"training.compile: true needs {missing}. Install it, or set compile: false.")
    encoder.compile()


def _missing_compiler(device: torch.device) -> str:
    """Describes the compiler that torch.compile needs on `device`; empty if it is installed."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            return "the package triton, which is not installed"
        names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
        kind, variable = "C", "CC"
    else:
        names = [os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")]
        kind, variable = "C++", "CXX"
    if any(shutil.which(name) for name in names):
        return ""
    return f"a {kind} compiler; {' or '.join(names)} not found on the path (the variable {variable} selects another)"
