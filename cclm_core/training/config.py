"""Training configuration of the base, of components, and of the training loop."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.config import EmbedderConfig, check_causal
from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.encoders.pretrained.catalogue import AnyEmbeddingConfig, PretrainedConfig
from cclm_core.objectives.catalogue import ObjectiveConfig, WindowObjectives
from cclm_core.objectives.contexts import READS_CONTEXTS, ContextObjectives
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.runtime.blocks import Registered
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import Precision
from cclm_core.runtime.errors import ConfigError
from cclm_core.training.initial_weights import InitializeConfig
from cclm_core.training.schedules import ConstantConfig, ScheduleConfig


class FeatureCacheConfig(Config):
    """How much of the features of a frozen base to keep on disk, and how exactly."""

    max_gigabytes: float = Field(gt=0, description="limit of the disk space, in units of 10^9 bytes")
    precision: Literal["fp16", "fp32"] = Field(
        default="fp16", description="fp16 needs half the space; features are rounded to 11 bits"
    )


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
    warmup_steps: int = Field(default=50, ge=0, description="steps of linear warm-up; the schedule follows")
    schedule: Literal["cosine", "linear", "flat"] = Field(
        default="cosine",
        description="learning rate after the warm-up: cosine or linear decay to 0, or flat and then a decay to 0 as 1 "
        "minus the square root of the share of the decay that is done",
    )
    decay_share: float = Field(default=0.2, gt=0, le=1, description="for `flat`: share of the steps that decay")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW: decay of the mean of the gradients per step")
    beta2: float = Field(
        default=0.98,
        ge=0,
        lt=1,
        description="AdamW: decay of the mean of the squared gradients per step; 0.98 ** (characters per step / 8192) "
        "remembers equally many characters at every batch size",
    )
    weight_decay: float = Field(default=0.05, ge=0, description="decoupled weight decay of matrices")
    table_rate: float = Field(default=1.0, gt=0, description="factor of the learning rate of embedding tables")
    table_decay: bool = Field(default=True, description="apply the weight decay to embedding tables, too")
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
    cache_features: FeatureCacheConfig | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="compute the features of the frozen base once per window and keep them on disk while a component "
        "trains. Only for objectives that do not change the text, without training noise. Windows then start at the "
        "same characters in every epoch. Null: compute them for every batch",
    )
    average: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="publish an exponential moving average of the weights with this decay per step, such as 0.997; the "
        "held-out evaluations measure it, too. null: no average",
    )
    average_from: float = Field(
        default=2 / 3,
        ge=0,
        lt=1,
        description="share of the steps after which the average begins; a training that `patience` stops before it has "
        "none",
    )

    @property
    def average_start(self) -> int | None:
        """The number of steps before the average begins; None without an average."""
        return None if self.average is None else int(self.average_from * self.steps)

    def with_rate_of(self, *encoders: EncoderConfig) -> "TrainingConfig":
        """The configuration with the lowest learning rate of these encoders, unless one was given."""
        rate = min(encoder.learning_rate for encoder in encoders)
        if "learning_rate" in self.model_fields_set or rate == self.learning_rate:
            return self
        return self.model_copy(update={"learning_rate": rate})


class WeightedObjective(Config):
    """An objective of the shared base, with or without a body of its own; see `training.branches`.

    Attributes:
        task: the objective, selected by its key `objective`.
    """

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
    """The shared embedder, and the objectives that pretrain it jointly before it is frozen.

    Attributes:
        embedder: the architecture of the embedder.
        objectives: the objectives that train it together.
        training: steps, batches and learning rate.
    """

    embedder: EmbedderConfig = Field(default_factory=EmbedderConfig)
    objectives: tuple[WeightedObjective, ...] = Field(default=(WeightedObjective(),), min_length=1)
    initialize: InitializeConfig | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="pretrained weights that the embedder starts from; null: random ones",
    )
    shared_pass: bool = Field(
        default=False,
        exclude_if=lambda value: not value,
        description="objectives with the same kind of input read it in one pass of the encoder: those that mask see "
        "the masks of each other, and noise is drawn once. Faster, and more of the text is masked at once",
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @model_validator(mode="after")
    def _check_cache(self) -> Self:
        if self.training.cache_features is not None:
            raise ValueError(
                "training.cache_features is for components over a frozen base, got it for the base, whose features "
                "change; remove it here"
            )
        return self

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


AnyObjectiveConfig = Annotated[
    WindowObjectives | ContextObjectives, Field(discriminator="objective"), Registered("objective")
]
"""Any objective of a component; those of the base read no contexts."""


class ComponentConfig(Config):
    """One component: an encoder over the frozen base, or over its own embedding, trained on one objective.

    A component with nothing to train, such as a frozen checkpoint with the encoder `none`, has no `task`.

    Attributes:
        task: the objective, selected by its key `objective`; null: nothing is trained.
        encoder: the encoder over the features of the base or over its own embedding, selected by its key `kind`.
        training: steps, batches and learning rate.
    """

    task: AnyObjectiveConfig | None = None
    encoder: EncoderConfig = Field(
        default_factory=lambda: HourglassConfig(core_width=192, num_layers=2, width=128),
    )
    independent: bool = Field(
        default=False, description="give it its own embedding instead of the features of the base"
    )
    embedding: AnyEmbeddingConfig | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="its own embedding, instead of the features of the base: characters, a transformers checkpoint or "
        "word vectors; null: none, or with `independent: true` one like that of the base",
    )
    joint: bool = Field(
        default=False,
        exclude_if=lambda joint: not joint,
        description="start from the weights that base.objectives trained jointly with the base under this name; with "
        "training.steps: 0 they are published unchanged",
    )
    initialize: InitializeConfig | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="pretrained weights that the component starts from; null: random ones",
    )
    origin: str | None = Field(
        default=None,
        min_length=1,
        description="components with the same origin start from the same weights and can be averaged; null: its name",
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @model_validator(mode="after")
    def _check_direction(self) -> Self:
        if getattr(self.task, "direction", None) == "backward" and not (self.independent and self.encoder.causal):
            raise ValueError(
                "direction: backward needs a component with its own embedding and a causal encoder, got independent: "
                f"{str(self.independent).lower()} and causal: {str(self.encoder.causal).lower()}; set `independent: "
                "true` and `encoder: {causal: true}`"
            )
        return self

    @model_validator(mode="after")
    def _choose_rate(self) -> Self:
        if isinstance(self.task, READS_CONTEXTS) and self.encoder.kind != "contextual":
            raise ValueError(
                f"the objective {self.task.objective} needs an encoder that reads contexts, got "
                f"{self.encoder.kind}. Set `encoder: {{kind: contextual}}`"
            )
        if self.joint and self.independent:
            raise ValueError(
                "an independent component has its own embedding and cannot be trained jointly with the base; remove "
                "`joint` or `independent`"
            )
        if self.joint and self.initialize is not None:
            raise ValueError(
                "a joint component starts from the weights that the base trained with it, so it cannot have "
                "`initialize`, too; remove `joint` or `initialize`"
            )
        object.__setattr__(self, "training", self.training.with_rate_of(self.encoder))
        return self

    @property
    def objective(self) -> AnyObjectiveConfig:
        """The task, for what needs one.

        Raises:
            ConfigError: the component has none, because nothing is trained.
        """
        if self.task is None:
            raise ConfigError("the component has no `task`, because nothing is trained. Name a trained component.")
        return self.task

    @property
    def is_independent(self) -> bool:
        """Whether the component has its own embedding."""
        return self.independent or self.embedding is not None

    @property
    def has_training(self) -> bool:
        """Whether there is anything to train: an encoder with weights, or an embedding with trained ones."""
        if self.encoder.kind != "none" or self.independent:
            return True
        own = self.embedding
        return own.is_trained if isinstance(own, PretrainedConfig) else own is not None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.embedding is not None and self.independent:
            raise ValueError("set `independent: true` or `embedding`, not both: a component has one embedding")
        if self.embedding is not None:
            check_causal(self.encoder, self.embedding)
        if self.task is None and self.has_training:
            raise ValueError("task is missing. Add it")
        if not self.has_training:
            if self.task is not None:
                raise ValueError(f"task must be null, because nothing is trained, got {self.task.objective}. Remove it")
            if "steps" in self.training.model_fields_set and self.training.steps:
                raise ValueError(f"training.steps must be 0, because nothing is trained, got {self.training.steps}")
            object.__setattr__(self, "training", self.training.model_copy(update={"steps": 0, "warmup_steps": 0}))
        return self
