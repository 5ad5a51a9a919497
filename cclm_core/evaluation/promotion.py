"""When a candidate may replace the champion: the section `promotion` of params.yaml. `flows/gate` applies it."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cclm_core.runtime.config import Config


class MetricRule(Config):
    """How one metric is compared."""

    better: Literal["higher", "lower"] | None = Field(
        None, description="which direction is an improvement; None: the one that the evaluation gives"
    )
    margin: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="in the metric's unit; None: the section's margin"
    )


class PromotionConfig(Config):
    """`params.yaml: promotion`.

    A candidate replaces the champion if it is better by more than the margin on at least `improved` of the named
    metrics, and worse by more than the margin on none. The margin is what two seeds differ by.

    >>> PromotionConfig(metrics={"entity_f1_clean": "higher"}).metrics["entity_f1_clean"].better
    'higher'
    """

    metrics: dict[str, MetricRule] = Field({}, description="names in metrics.json of the evaluation; none: no champion")
    margin: float = Field(0.0, ge=0, allow_inf_nan=False, description="for the metrics that give none of their own")
    improved: int | None = Field(None, ge=1, description="how many metrics must improve; None: all of them")

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
                f"improved must be at most the number of metrics, {len(self.metrics)}; got {self.improved}"
            )
        return self
