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
