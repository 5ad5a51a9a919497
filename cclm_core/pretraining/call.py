"""One call of `fit`: its settings, its progress and its result."""

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cclm_core.composition.component import Component
from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.objectives.base import Objective
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import StrPath, as_path
from cclm_core.runtime.reporting import Report, null_report, reporting
from cclm_core.training.config import TrainingConfig
from cclm_core.training.run import Identity
from cclm_core.training.trainee import Data, Point

Callback = Callable[[int, Mapping[str, float]], None]
"""Receives each new point of the learning curve: the step, and the values by name."""

_MAX_WARMUP_STEPS = 50  # unless `warmup_steps` is set


@dataclass(frozen=True)
class FitCall:
    """The settings of one call of `fit`; with `epochs`, `config.steps` is 0 until the size of the corpus is known."""

    config: TrainingConfig
    epochs: float | None
    has_default_warmup: bool
    callback: Callback | None
    checkpoints: Path | None
    progress: bool | None

    @classmethod
    def of(
        cls,
        training: dict[str, Any],
        epochs: float | None,
        steps: int | None,
        callback: Callback | None,
        checkpoints: StrPath | None,
        progress: bool | None,
    ) -> "FitCall":
        """Checks the arguments of `fit`."""
        if (epochs is None) == (steps is None):
            raise ConfigError(f"`fit` needs either `epochs` or `steps`, got epochs={epochs} and steps={steps}.")
        if epochs is not None and not 0 < epochs < math.inf:
            raise ConfigError(f"`epochs` must be a finite number above 0, got {epochs}.")
        if callback is not None and not callable(callback):
            raise ConfigError(f"`callback` must be a function of a step and values, got {type(callback).__name__}.")
        config = TrainingConfig.parse({**training, "steps": steps or 0}, "fit")
        store = None if checkpoints is None else as_path(checkpoints, "checkpoints")
        return cls(config, epochs, "warmup_steps" not in training, callback, store, progress)

    def with_rate_of(self, *encoders: EncoderConfig) -> "FitCall":
        """The call with the lowest default learning rate of these encoders, unless a learning rate was given."""
        return replace(self, config=self.config.with_rate_of(*encoders))

    def scheduled(self, data: Data) -> TrainingConfig:
        """The configuration with the number of steps and the warm-up."""
        steps = self.config.steps
        if self.epochs is not None:
            batches = data.training.batches_per_epoch(self.config.batch_size)
            steps = math.ceil(self.epochs * batches / self.config.accumulate)
        warmup = min(_MAX_WARMUP_STEPS, steps // 10) if self.has_default_warmup else self.config.warmup_steps
        return self.config.model_copy(update={"steps": steps, "warmup_steps": warmup})

    def reporting(self, report: Report) -> Report:
        """`report`, and the callback for each point of the learning curve."""
        callback = self.callback
        if callback is None:
            return report

        def both(step: int, values: Mapping[str, float], total: int | None = None) -> None:
            """Passes on the values; losses between two points are not points."""
            report(step, values, total)
            if any(name.startswith("held_out_") for name in values):
                callback(step, {name: value for name, value in values.items() if name != "step"})

        return both

    def bar(self, name: str) -> AbstractContextManager[Report]:
        """A report that draws a progress bar, or one that does nothing."""
        is_drawn = sys.stderr.isatty() if self.progress is None else self.progress
        return reporting(name, None, bar=True) if is_drawn else nullcontext(null_report)


@dataclass(frozen=True)
class FitResult:
    """The result of a call of `fit`, and the identity that it depends on.

    Attributes:
        trained_base: the base as the call left it, if the call trained it: its digest, and the trained weights.
    """

    component: Component
    objective: Objective
    curve: list[Point]
    identity: Identity
    trained_base: tuple[str, frozenset[str]] | None = None
