"""The training module: an encoder and the objectives that read its features."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.encoders.pretrained.base import rate_factors
from cclm_core.objectives.base import Example, Objective, Sums
from cclm_core.objectives.windowed import shared_examples
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
        shared_pass: whether objectives with the same kind of input read it in one pass of the encoder in training.

    Raises:
        ConfigError: an objective needs an encoder of one direction and this one is not; or no two objectives can share
            a pass.
    """

    def __init__(
        self, encoder: nn.Module, objectives: Sequence[tuple[Objective, float] | Branch], shared_pass: bool = False
    ) -> None:
        super().__init__()
        self.branches = in_canonical_order(
            [
                part if isinstance(part, Branch) else Branch(objective=part[0], loss_weight=part[1])
                for part in objectives
            ]
        )
        for branch in self.branches:
            _check_direction(encoder, branch)
        if shared_pass:
            _check_shared([branch.objective for branch in self.branches])
        self.encoder, self.shared_pass = encoder, shared_pass
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
        """One example per objective; see `Trainee.examples`.

        In evaluation, each objective reads an input of its own, so that metrics do not depend on `shared_pass`.
        """
        generators = self._generators(seed, *names)
        if self.shared_pass and training:
            return shared_examples([branch.objective for branch in self.branches], batch, generators)
        return [
            branch.objective.example(batch, generator, training)
            for branch, generator in zip(self.branches, generators, strict=True)
        ]

    def training_examples(self, batch: WindowBatch, seed: int, number: int, progress: float) -> list[Example]:
        """One example per objective; see `Trainee.training_examples`."""
        generators = self._generators(seed, "training", number)
        if self.shared_pass:
            return shared_examples([branch.objective for branch in self.branches], batch, generators, progress)
        return [
            branch.objective.training_example(batch, generator, progress)
            for branch, generator in zip(self.branches, generators, strict=True)
        ]

    def _generators(self, seed: int, *names: str | int) -> list[np.random.Generator]:
        return [derive(seed, *names, branch.name or number) for number, branch in enumerate(self.branches)]

    def forward(self, examples: list[Example]) -> tuple[Tensor, dict[str, Sums]]:
        """The weighted loss () and the metrics of `examples`, one per objective, moved to the device of the weights.

        Examples with the same tensor of ids share one pass of the encoder. With gradients, objectives that would change
        no weight at this step are left out.

        Raises:
            TrainingError: no objective would change a weight.
        """
        device, losses = device_of(self), []
        passes: dict[int, tuple[Tensor, Tensor]] = {}
        metrics: dict[str, Sums] = {}
        is_training = torch.is_grad_enabled()
        pairs = zip(self.branches, examples, strict=True)
        sending = {id(example.ids) for branch, example in pairs if branch.sends_gradient(self._step)}
        for suffix, branch, example in zip(self.suffixes, self.branches, examples, strict=True):
            if is_training and branch.is_idle(self._step):
                continue
            moved = example.to(device)
            if id(example.ids) not in passes:
                needs_gradient = not is_training or id(example.ids) in sending
                passes[id(example.ids)] = moved.ids, self._encoded(moved.ids, needs_gradient)
            ids, features = passes[id(example.ids)]
            loss, values = branch.objective.loss(self._read(branch, features, ids), moved._replace(ids=ids))
            losses.append(branch.loss_weight * loss)
            metrics |= {f"{name}{suffix}": value for name, value in values.items()}
        if not losses:
            raise TrainingError(
                f"step {self._step + 1} would change no weight: every objective has loss_weight or gradient_factor 0 "
                "and a frozen head. Unfreeze one."
            )
        return sum(losses[1:], losses[0]), metrics

    def _encoded(self, ids: Tensor, needs_gradient: bool) -> Tensor:
        """Features of the shared encoder, computed without gradients if it would get none."""
        with nullcontext() if needs_gradient else torch.no_grad():
            features: Tensor = self.encoder(ids)
        return features

    def _read(self, branch: Branch, features: Tensor, ids: Tensor) -> Tensor:
        """What the head of a branch reads."""
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

    def rate_factors(self) -> Mapping[str, float]:
        """The factors of trained pretrained embeddings; see `Trainee.rate_factors`."""
        return rate_factors(self)


def _check_direction(encoder: nn.Module, branch: Branch) -> None:
    described, objective = getattr(encoder, "described", "this encoder"), branch.objective
    is_causal = getattr(encoder, "causal", False) and (branch.body is None or branch.body.causal)
    if objective.needs_causal and not is_causal:
        raise ConfigError(
            f"the objective {type(objective).__name__} predicts later characters and needs a causal encoder; "
            f"{described} is not. Set `causal: true` in the configuration of the encoder."
        )
    if objective.needs_anticausal and not getattr(encoder, "anticausal", False):
        raise ConfigError(
            f"the objective {type(objective).__name__} with direction: backward predicts earlier characters and needs "
            f"a component that reads backward; {described} does not. Train it as a component with `independent: true` "
            "and `encoder: {causal: true}`."
        )


def _check_shared(objectives: Sequence[Objective]) -> None:
    kinds = [objective.input_kind for objective in objectives if objective.input_kind is not None]
    if len(set(kinds)) == len(kinds):
        names = ", ".join(type(objective).__name__ for objective in objectives)
        raise ConfigError(
            f"shared_pass: true needs two objectives with the same kind of input, got {names}. Those that mask "
            "(masked_characters, masked_words, characters) share one, and those that do not (entities, "
            "next_characters) another. Set shared_pass: false, or add an objective."
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
