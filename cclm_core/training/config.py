"""Training configuration of the base, of components, and of the training loop."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import EmbedderConfig
from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.objectives.catalogue import ObjectiveConfig
from cclm_core.objectives.contexts import READS_CONTEXTS, ContextObjectiveConfig
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import Precision


class TrainingConfig(Config):
    """Settings of one training: everything that changes the bits of its result, including threads and precision."""

    steps: int = Field(default=600, ge=0, description="optimizer steps")
    batch_size: int = Field(default=32, ge=1, description="windows per batch")
    accumulate: int = Field(default=1, ge=1, description="batches per step; their gradients are averaged")
    window: int = Field(default=256, ge=8, description="characters per window")
    variants: tuple[str, ...] | None = Field(
        default=None, description="train on documents of these variants; null: all"
    )
    learning_rate: float = Field(
        default=4e-3,
        gt=0,
        description="peak learning rate of AdamW; if it is not given, that of the encoder: 1e-3 for convolution, 4e-3 "
        "for the others",
    )
    warmup_steps: int = Field(default=50, ge=0, description="steps of linear warm-up; cosine decay to 0 follows")
    weight_decay: float = Field(default=0.05, ge=0, description="decoupled weight decay of matrices")
    gradient_clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    precision: Precision = Field(
        default="auto",
        description="precision of matrix products; auto: bf16 if the hardware supports it (runtime/device.py)",
    )
    compile: bool = Field(
        default=False,
        description="apply torch.compile to the encoder; needs a C++ compiler. Measure first: on a CPU, the default "
        "base took 80 s to compile and each step became 1 to 4 % faster",
    )
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads")
    evaluate_every: int = Field(default=100, ge=1, description="steps between held-out evaluations")
    evaluation_windows: int = Field(default=128, ge=1, description="held-out windows per evaluation")
    checkpoint_every: int = Field(default=100, ge=1, description="steps between checkpoints")
    keep: Literal["last", "best"] = Field(
        default="last", description="weights to publish: the last ones, or those with the best held-out evaluation"
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after this many evaluations without improvement; null: never"
    )

    def with_rate_of(self, *encoders: EncoderConfig) -> "TrainingConfig":
        """The configuration with the lowest learning rate of these encoders, unless one was given."""
        rate = min(encoder.learning_rate for encoder in encoders)
        if "learning_rate" in self.model_fields_set or rate == self.learning_rate:
            return self
        return self.model_copy(update={"learning_rate": rate})


class WeightedObjective(Config):
    """An objective of the shared base with its loss weight."""

    task: ObjectiveConfig = Field(default_factory=MaskedCharactersConfig)
    gradient_factor: float = Field(default=1.0, ge=0, description="factor of this objective's loss")


class BaseConfig(Config):
    """The shared embedder, and the objectives that pretrain it jointly before it is frozen."""

    embedder: EmbedderConfig = Field(default_factory=EmbedderConfig)
    objectives: tuple[WeightedObjective, ...] = Field(default=(WeightedObjective(),), min_length=1)
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @model_validator(mode="after")
    def _choose_rate(self) -> Self:
        object.__setattr__(self, "training", self.training.with_rate_of(self.embedder.encoder))
        return self


class ComponentConfig(Config):
    """One component: an encoder over the frozen base, or over its own embedding, trained on one objective."""

    task: Annotated[ObjectiveConfig | ContextObjectiveConfig, Field(discriminator="objective")]
    encoder: EncoderConfig = Field(
        default_factory=lambda: HourglassConfig(core_width=192, num_layers=2, width=128),
    )
    independent: bool = Field(
        default=False, description="give it its own embedding instead of the features of the base"
    )
    origin: str | None = Field(
        default=None,
        min_length=1,
        description="components with the same origin start from the same weights and can be averaged; null: its name",
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.task, READS_CONTEXTS) and self.encoder.kind != "contextual":
            raise ValueError(
                f"the objective {self.task.objective} needs an encoder that reads contexts, got "
                f"{self.encoder.kind}. Set `encoder: {{kind: contextual}}`"
            )
        object.__setattr__(self, "training", self.training.with_rate_of(self.encoder))
        return self
