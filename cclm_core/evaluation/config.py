"""The section `evaluation` of params.yaml.

All compositions share these settings, so their metrics are comparable. They are stored with each result.
"""

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from cclm_core.composition.long_texts import WINDOW
from cclm_core.evaluation.baselines.catalogue import ALL_BASELINES, BaselineConfig
from cclm_core.evaluation.held_out import SelectionNoise
from cclm_core.evaluation.metrics import Bootstrap
from cclm_core.evaluation.probes.catalogue import DEFAULT_PROBES, ProbeConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import Precision


class EvaluationConfig(Config):
    """Probes, baselines, and how texts are read.

    Attributes:
        bootstrap: how the confidence intervals are measured.
    """

    threads: int = Field(default=1, ge=1, description="CPU threads; the number can change the last bits")
    precision: Precision = Field(
        default="auto", description="precision of the model's matrix products; see runtime/device.py"
    )
    variants: tuple[str, ...] | None = Field(
        default=None, description="variants to read; null: all; documents without a variant are always read"
    )
    batch_characters: int = Field(default=4096, ge=1, description="ids per forward pass, padding included")
    window: int = Field(
        default=WINDOW,
        ge=2,
        description="ids per window; windows of longer texts overlap by half, as in `embed`",
    )
    num_examples: int = Field(default=20, ge=0, description="documents per test set in predictions.jsonl")
    contributions: bool = Field(default=True, description="also measure the composition without each component")
    select_parts: bool = Field(
        default=True,
        description="each probe reads the components that are best on the validation split; false: all of them. Needs "
        "`contributions`",
    )
    selection_noise: SelectionNoise = Field(
        default_factory=SelectionNoise,
        description="noised copies of the validation texts to select components on, for names and labels",
    )
    bootstrap: Bootstrap = Bootstrap()
    probes: tuple[ProbeConfig, ...] = Field(default=DEFAULT_PROBES, description="probes to fit, each at most once")
    baselines: tuple[BaselineConfig, ...] = Field(
        default=ALL_BASELINES,
        description="baselines to compare with, each at most once; the main one of a metric first",
    )

    def metric_names(self, test_sets: Sequence[str]) -> list[str]:
        """The names of the metrics that an evaluation can have, if the corpus has what each probe needs.

        Contributions of components (`contribution/COMPONENT/METRIC`) are left out.

        Args:
            test_sets: names of the test sets, such as `clean` and `noise_0.1`.
        """
        names = [name for probe in self.probes for name in probe.metric_names(test_sets)]
        baselines = [f"{name}_{baseline.baseline}" for name in names for baseline in self.baselines]
        return [*names, "parameters", "width", *baselines]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        probes: list[str] = [probe.probe for probe in self.probes]
        baselines: list[str] = [baseline.baseline for baseline in self.baselines]
        for key, names in (("probes", probes), ("baselines", baselines)):
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{key} must not contain a name twice, got {', '.join(repeated)} more than once")
        return self
