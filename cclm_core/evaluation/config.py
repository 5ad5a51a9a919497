"""The section `evaluation` of params.yaml.

The recipe is the same for every composition, so that their figures are comparable; it is stored with each result.
"""

from typing import Self

from pydantic import Field, model_validator

from cclm_core.composition.long_texts import WINDOW
from cclm_core.evaluation.baselines.catalogue import ALL_BASELINES, BaselineConfig
from cclm_core.evaluation.metrics import Bootstrap
from cclm_core.evaluation.probes.catalogue import ALL_PROBES, ProbeConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import Precision


class EvaluationConfig(Config):
    """Which probes and baselines are evaluated, and how texts are read."""

    threads: int = Field(default=1, ge=1, description="CPU threads; the number can change the last bits")
    precision: Precision = Field(default="auto", description="of the model's matrix products; see runtime/device.py")
    variants: tuple[str, ...] = Field(
        default=("modern",), description="documents of these variants are read, and those without a variant"
    )
    batch_characters: int = Field(default=4096, ge=1, description="ids per forward pass, padding included")
    window: int = Field(
        default=WINDOW, ge=2, description="ids that are read together; longer texts overlap by half, as in `embed`"
    )
    num_examples: int = Field(default=20, ge=0, description="documents shown in predictions.jsonl, per noise rate")
    contributions: bool = Field(default=True, description="also measure the composition without each component")
    bootstrap: Bootstrap = Bootstrap()
    probes: tuple[ProbeConfig, ...] = Field(default=ALL_PROBES, description="what is measured, each probe at most once")
    baselines: tuple[BaselineConfig, ...] = Field(
        default=ALL_BASELINES, description="what it is compared with, each at most once; the main one of a metric first"
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        probes: list[str] = [one.probe for one in self.probes]
        baselines: list[str] = [one.baseline for one in self.baselines]
        for key, names in (("probes", probes), ("baselines", baselines)):
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{key} must contain each member at most once, got more of: {', '.join(repeated)}")
        return self
