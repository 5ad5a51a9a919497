"""Schedules: a factor for each training step, as a function of its number alone, so that training resumes exactly.

| name | factor of step n, from 0 |
|---|---|
| a number, `constant` | the number |
| `warmup` | linear from `start` to `end` over the first `steps` steps, then `end` |
| `decay` | from `start` to `end` over the first `steps` steps, then `end`; linear, cosine or exponential |
| `piecewise` | the value of the last entry of `values` whose step is at most n |
| `frozen_until` | 0 before the step `step`, then `then`, whose steps count from there |
"""

import math
from itertools import pairwise
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from cclm_core.runtime.blocks import Registered
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import TrainingError


class Schedule(Protocol):
    """The contract of schedules, which are configurations."""

    def at(self, step: int) -> float:
        """The factor of step `step` (from 0): finite and at least 0."""
        ...


class ConstantConfig(Config):
    """The same factor at every step. In params.yaml: the number alone."""

    schedule: Literal["constant"] = "constant"
    value: float = Field(default=1.0, ge=0, description="the factor")

    def at(self, step: int) -> float:  # noqa: ARG002
        """The factor."""
        return self.value


class WarmupConfig(Config):
    """Linear from `start` at step 0 to `end` at step `steps`, and `end` after that."""

    schedule: Literal["warmup"] = "warmup"
    steps: int = Field(default=100, ge=1, description="steps until `end` is reached")
    start: float = Field(default=0.0, ge=0, description="factor of the first step")
    end: float = Field(default=1.0, ge=0, description="factor from step `steps` on")

    def at(self, step: int) -> float:
        """The factor of step `step` (from 0)."""
        return _between(self.start, self.end, min(step, self.steps) / self.steps)


class DecayConfig(Config):
    """From `start` at step 0 to `end` at step `steps`, and `end` after that."""

    schedule: Literal["decay"] = "decay"
    steps: int = Field(default=100, ge=1, description="steps until `end` is reached")
    start: float = Field(default=1.0, ge=0, description="factor of the first step")
    end: float = Field(default=0.0, ge=0, description="factor from step `steps` on")
    shape: Literal["linear", "cosine", "exponential"] = Field(
        default="linear", description="the curve; exponential: equal ratios, so both ends must be above 0"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shape == "exponential" and not (self.start > 0 and self.end > 0):
            raise ValueError(f"exponential needs start and end above 0, got {self.start:g} and {self.end:g}")
        return self

    def at(self, step: int) -> float:
        """The factor of step `step` (from 0)."""
        share = min(step, self.steps) / self.steps
        if self.shape == "exponential":
            return self.end if share == 1 else self.start * (self.end / self.start) ** share
        if self.shape == "cosine" and share < 1:
            share = (1 - math.cos(math.pi * share)) / 2
        return _between(self.start, self.end, share)


class PiecewiseConfig(Config):
    """A constant factor between given steps: `values: [[0, 0.0], [100, 0.5], [300, 1.0]]`."""

    schedule: Literal["piecewise"] = "piecewise"
    values: tuple[tuple[int, float], ...] = Field(
        default=((0, 1.0),),
        min_length=1,
        description="pairs of a step and the factor from that step on; the first is 0",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.values[0][0] != 0:
            raise ValueError(f"values must begin at step 0, got {self.values[0][0]}")
        for (before, _), (after, _) in pairwise(self.values):
            if before >= after:
                raise ValueError(f"the steps of values must increase, got {before} before {after}")
        if any(factor < 0 for _, factor in self.values):
            raise ValueError(f"the factors of values must be at least 0, got {[factor for _, factor in self.values]}")
        return self

    def at(self, step: int) -> float:
        """The factor of step `step` (from 0)."""
        return next(factor for first, factor in reversed(self.values) if first <= step)


def _from_number(value: Any) -> Any:
    is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
    return {"schedule": "constant", "value": value} if is_number else value


def _to_number(config: Config) -> Any:
    return config.value if isinstance(config, ConstantConfig) else config.canonical()


class FrozenUntilConfig(Config):
    """0 before the step `step`; then `then`, whose steps are counted from there."""

    schedule: Literal["frozen_until"] = "frozen_until"
    step: int = Field(default=100, ge=0, description="first step with a factor other than 0")
    then: "ScheduleConfig" = Field(default_factory=ConstantConfig, description="a number or a schedule")

    def at(self, step: int) -> float:
        """The factor of step `step` (from 0)."""
        return 0.0 if step < self.step else self.then.at(step - self.step)


ScheduleConfig = Annotated[
    ConstantConfig | WarmupConfig | DecayConfig | PiecewiseConfig | FrozenUntilConfig,
    Field(discriminator="schedule"),
    Registered("schedule"),
    BeforeValidator(_from_number),
    PlainSerializer(_to_number),
]
"""Any schedule, or a number. This union is the catalogue."""

FrozenUntilConfig.model_rebuild()


def factor_at(schedule: Schedule, step: int) -> float:
    """The factor of step `step` (from 0).

    Raises:
        TrainingError: the schedule returned a negative or infinite number, or something else.
    """
    value = schedule.at(step)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise TrainingError(
            f"a schedule must return a finite number of at least 0, got {value!r:.80} at step {step} from "
            f"{type(schedule).__name__}. Correct it."
        )
    return float(value)


def _between(start: float, end: float, share: float) -> float:
    """The point between two numbers; exactly `start` and `end` at the ends."""
    return start if share == 0 else end if share == 1 else start + (end - start) * share
