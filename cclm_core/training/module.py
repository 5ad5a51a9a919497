"""The training module: an encoder and the objectives that read its features."""

import os
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import Example, Objective, Sums
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.random import derive
from cclm_core.training.trainee import Point, Trainee


class TrainingModule(Trainee):
    """An encoder, and the objectives that read its features.

    Args:
        encoder: maps ids (B, L) to features (B, L, W).
        objectives: pairs of an objective and its loss weight.

    Raises:
        ConfigError: an objective needs a causal encoder and this one is not causal.
    """

    def __init__(self, encoder: nn.Module, objectives: Sequence[tuple[Objective, float]]) -> None:
        super().__init__()
        for objective, _ in objectives:
            if objective.needs_causal and not getattr(encoder, "causal", False):
                raise ConfigError(
                    f"the objective {type(objective).__name__} predicts later characters and needs a causal encoder; "
                    f"{getattr(encoder, 'described', 'this encoder')} is not. Set `causal: true` in the configuration "
                    "of the encoder."
                )
        self.encoder = encoder
        self.objectives = nn.ModuleList(objective for objective, _ in objectives)
        self.factors = [factor for _, factor in objectives]
        kinds = [type(objective) for objective, _ in objectives]
        # Objectives of the same kind have the same metric names: append their number.
        self.suffixes = [f"_{number}" if kinds.count(kind) > 1 else "" for number, kind in enumerate(kinds, start=1)]

    @property
    def described(self) -> str:
        """The name of the first objective."""
        return type(self.objectives[0]).__name__

    def examples(self, batch: WindowBatch, training: bool, seed: int, *names: str | int) -> list[Example]:
        """One example per objective; see `Trainee.examples`."""
        examples = []
        for number, objective in enumerate(self.objectives):
            assert isinstance(objective, Objective)
            examples.append(objective.example(batch, derive(seed, *names, number), training))
        return examples

    def training_examples(self, batch: WindowBatch, seed: int, number: int, progress: float) -> list[Example]:
        """One example per objective; see `Trainee.training_examples`."""
        examples = []
        for position, objective in enumerate(self.objectives):
            assert isinstance(objective, Objective)
            generator = derive(seed, "training", number, position)
            examples.append(objective.training_example(batch, generator, progress))
        return examples

    def forward(self, examples: list[Example]) -> tuple[Tensor, dict[str, Sums]]:
        """The weighted loss () and the metrics of `examples`, one per objective, moved to the device of the weights."""
        device, losses = device_of(self), []
        metrics: dict[str, Sums] = {}
        for suffix, objective, factor, example in zip(
            self.suffixes, self.objectives, self.factors, examples, strict=True
        ):
            assert isinstance(objective, Objective)
            moved = example.to(device)
            loss, values = objective.loss(self.encoder(moved.ids), moved)
            losses.append(factor * loss)
            metrics |= {f"{name}{suffix}": value for name, value in values.items()}
        return sum(losses[1:], losses[0]), metrics

    def selection_value(self, point: Point) -> float:
        """The weighted sum of the selection metrics of the objectives; lower is better.

        Raises:
            TrainingError: the held-out windows contain no target for an objective.
        """
        total = 0.0
        for suffix, objective, factor in zip(self.suffixes, self.objectives, self.factors, strict=True):
            name = f"held_out_{objective.selection_metric}{suffix}"
            if name not in point:
                raise TrainingError(
                    f"cannot select the best weights: the held-out windows contain no target for "
                    f"{type(objective).__name__}. Raise training.evaluation_windows, add text to the validation split, "
                    "or set keep: last and patience: null."
                )
            total += factor * point[name]
        return total


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
