"""Promotion rules: the section `promotion` of params.yaml. `flows/gate` applies them."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cclm_core.runtime.config import Config


class MetricRule(Config):
    """How to compare one metric."""

    better: Literal["higher", "lower"] | None = Field(
        None, description="which direction is an improvement; None: as in the evaluation"
    )
    margin: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="margin in the metric's unit; None: the section's margin"
    )


class SliceRule(Config):
    """How much worse a candidate may be on a part of the test texts, such as those of one label."""

    min_texts: int = Field(default=100, ge=1, description="slices with fewer texts are not compared")
    margin: float = Field(
        default=0.1, ge=0, allow_inf_nan=False, description="largest loss of the main metric on a slice"
    )


class TaskRules(Config):
    """When the model of a task replaces its champion. Both are measured on the same test texts.

    The differences of the main metric, on the clean test set and on each noisy copy, have confidence intervals by
    paired bootstrap. At least one interval must lie above 0, and none below 0.
    """

    confidence: float = Field(default=0.95, gt=0, lt=1, description="confidence level of the intervals")
    resamples: int = Field(default=1000, ge=10, description="number of bootstrap samples")
    slices: SliceRule | None = Field(default=SliceRule(), description="null: slices are not compared")
    best_part: bool = Field(
        default=True,
        description="refuse an ensemble that is worse than its best part on a test set, beyond the interval",
    )


class PromotionConfig(Config):
    """`params.yaml: promotion`: when a candidate replaces the champion.

    At least `improved` of the listed metrics must be better by more than their margin, and no listed metric may be
    worse by more than its margin. Set margins to the typical difference between two seeds.

    >>> PromotionConfig(metrics={"entity_f1_clean": "higher"}).metrics["entity_f1_clean"].better
    'higher'
    """

    metrics: dict[str, MetricRule] = Field(
        {}, description="metrics to compare, by their name in metrics.json; empty: candidates are never promoted"
    )
    margin: float = Field(0.0, ge=0, allow_inf_nan=False, description="default margin of the metrics")
    improved: int | None = Field(None, ge=1, description="how many metrics must improve; None: all")
    tasks: TaskRules = Field(
        default=TaskRules(), description="the rules for tasks; the other keys are for compositions"
    )

    @field_validator("metrics", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: {"better": rule} if isinstance(rule, str) else rule for name, rule in value.items()}

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.improved is not None and self.metrics and self.improved > len(self.metrics):
            raise ValueError(
                f"improved must be at most the number of metrics ({len(self.metrics)}), got {self.improved}"
            )
        return self
