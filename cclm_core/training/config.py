"""Training configuration of the base, of components, and of the training loop."""

from typing import Literal, Self

from pydantic import Field, model_validator

from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedder import EmbedderConfig
from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.objectives.catalogue import ObjectiveConfig
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import Precision
from cclm_core.training.schedules import ConstantConfig, ScheduleConfig


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
    """An objective of the shared base, with or without a body of its own; see `training.branches`."""

    task: ObjectiveConfig = Field(default_factory=MaskedCharactersConfig)
    gradient_factor: ScheduleConfig = Field(
        default_factory=ConstantConfig,
        description="factor of the gradient that this objective sends into the shared embedder, a number or a "
        "schedule; its own head and body get their full gradient",
    )
    loss_weight: float = Field(
        default=1.0,
        ge=0,
        exclude_if=lambda weight: weight == 1,
        description="factor of its loss, for the head, the body and the embedder; 0: measured, but not trained",
    )
    name: str | None = Field(
        default=None,
        pattern=r"^\w[\w-]*$",
        max_length=100,
        exclude_if=lambda name: name is None,
        description="required for `encoder`. The order of objectives with names does not matter",
    )
    encoder: EncoderConfig | None = Field(
        default=None,
        exclude_if=lambda encoder: encoder is None,
        description="a body of its own over the shared embedder: a component that is trained jointly. The component of "
        "this name in `components` publishes it with `joint: true`. Null: the head reads the embedder",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.encoder is not None and self.name is None:
            raise ValueError("an objective with an `encoder` of its own must have a `name`; add it")
        return self


class BaseConfig(Config):
    """The shared embedder, and the objectives that pretrain it jointly before it is frozen."""

    embedder: EmbedderConfig = Field(default_factory=EmbedderConfig)
    objectives: tuple[WeightedObjective, ...] = Field(default=(WeightedObjective(),), min_length=1)
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [part.name.lower() for part in self.objectives if part.name is not None]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the names of objectives must differ, got {twice[0]!r} twice; rename one")
        if not any(part.loss_weight for part in self.objectives):
            raise ValueError("at least one objective must have a loss_weight above 0, got 0 for all")
        bodies = [part.encoder for part in self.objectives if part.encoder is not None]
        object.__setattr__(self, "training", self.training.with_rate_of(self.embedder.encoder, *bodies))
        return self


class ComponentConfig(Config):
    """One component: an encoder over the frozen base, or over its own embedding, trained on one objective."""

    task: ObjectiveConfig
    encoder: EncoderConfig = Field(
        default_factory=lambda: HourglassConfig(core_width=192, num_layers=2, width=128),
    )
    independent: bool = Field(
        default=False, description="give it its own embedding instead of the features of the base"
    )
    joint: bool = Field(
        default=False,
        exclude_if=lambda joint: not joint,
        description="start from the weights that base.objectives trained jointly with the base under this name; with "
        "training.steps: 0 they are published unchanged",
    )
    origin: str | None = Field(
        default=None,
        min_length=1,
        description="components with the same origin start from the same weights and can be averaged; null: its name",
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @model_validator(mode="after")
    def _choose_rate(self) -> Self:
        if self.joint and self.independent:
            raise ValueError(
                "an independent component has its own embedding and cannot be trained jointly with the base; remove "
                "`joint` or `independent`"
            )
        object.__setattr__(self, "training", self.training.with_rate_of(self.encoder))
        return self
