"""A task: which data, which composition, what is trained and how. Section `tasks` of params.yaml."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cclm_core.encoders.embedder import EmbedderConfig
from cclm_core.heads.catalogue import HeadConfig
from cclm_core.heads.tags import TagsConfig
from cclm_core.noise.recipe import NoiseRecipe, NoiseShape, Rates
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import Precision
from cclm_core.training.config import TrainingConfig

MIN_STEPS, MIN_EPOCHS = 600, 6
_KEYS_OF_NGRAMS = {"data", "model", "noised_copies", "noise", "ngrams"}  # and `head: {head: tags, unit: ...}`


class TaskNoise(NoiseShape):
    """Typing noise on the training texts, drawn again for every batch."""

    share: float = Field(default=0.5, ge=0, le=1, description="share of the texts that are noised; 0 turns noise off")
    rates: Rates = Field(default=(0.05, 0.1, 0.15, 0.2), min_length=1, description="rates, equally often")

    def recipe(self, rate: float) -> NoiseRecipe:
        """The recipe with this rate."""
        return NoiseRecipe(rate=rate, **{name: getattr(self, name) for name in NoiseShape.model_fields})


class NgramsConfig(Config):
    """Character n-grams with logistic regression, added to the network: log-probabilities are summed.

    For tags, they are those of a word, next to its shape and its neighbors. Counts and networks make different errors,
    so the sum is better than each (docs/tasks.md has figures).
    """

    weight: float | Literal["auto"] = Field(
        default="auto",
        description="weight of the n-grams; the network has 1. `auto`: the best of 0, 0.5, 1 and 2, for tags also 4, "
        "on the validation texts, clean and noised; 1, for tags 2, if there are fewer than 200",
    )
    sizes: tuple[int, int] = Field(default=(1, 5), description="shortest and longest n-gram, inside words")
    max_features: int = Field(
        default=200_000, ge=1, description="number of n-grams, the most frequent ones; for tags, per group"
    )
    strength: float = Field(default=20.0, gt=0, description="inverse of the L2 penalty, C in scikit-learn")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 1 <= self.sizes[0] <= self.sizes[1] <= 8:
            raise ValueError(f"sizes must be two numbers from 1 to 8 in order, got {list(self.sizes)}")
        if self.weight != "auto" and not 0 < float(self.weight) <= 100:
            raise ValueError(f"weight must be above 0 and at most 100, or auto, got {self.weight}; ngrams: null is 0")
        return self


class FineTuningConfig(Config):
    """Settings of the fine-tuning. The defaults are measured: docs/tasks.md."""

    steps: int | None = Field(
        default=None,
        ge=0,
        description="optimizer steps; null: 6 epochs, but at least 600 steps, unless `epochs` is set",
    )
    epochs: float | None = Field(default=None, gt=0, description="passes over the training texts, instead of `steps`")
    batch_size: int = Field(default=32, ge=1, description="texts or pairs per batch")
    max_characters: int = Field(
        default=512,
        ge=16,
        description="longer texts are read in windows of this size; training takes a random window of each",
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="peak learning rate of AdamW; null: 0.003 from a composition, 0.001 from random weights",
    )
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="factor of the learning rate for each layer below the head"
    )
    warmup: float = Field(default=0.1, ge=0, le=1, description="share of steps with linear warm-up before cosine decay")
    weight_decay: float = Field(default=0.05, ge=0, description="decoupled weight decay of matrices")
    gradient_clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    precision: Precision = Field(default="auto", description="precision of matrix products; see `training`")
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads")
    evaluate_every: int = Field(default=100, ge=1, description="steps between evaluations on the validation split")
    evaluation_texts: int = Field(default=512, ge=1, description="validation texts per evaluation")
    checkpoint_every: int = Field(default=100, ge=1, description="steps between checkpoints")
    keep: Literal["last", "best"] = Field(default="last", description="weights to publish; `best` on validation")
    patience: int | None = Field(
        default=None, ge=1, description="early stopping: evaluations without improvement; null: never"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("set `steps` or `epochs`, not both")
        return self

    def schedule(self, num_texts: int, is_pretrained: bool) -> TrainingConfig:
        """The settings of the training loop for `num_texts` training texts."""
        batches = -(-num_texts // self.batch_size)
        steps = self.steps
        if steps is None:
            steps = (
                max(MIN_STEPS, MIN_EPOCHS * batches) if self.epochs is None else max(1, round(self.epochs * batches))
            )
        shared = {name: getattr(self, name) for name in TrainingConfig.model_fields if name in type(self).model_fields}
        return TrainingConfig(
            **shared
            | {
                "learning_rate": self.learning_rate or (3e-3 if is_pretrained else 1e-3),
                "steps": steps,
                "warmup_steps": round(self.warmup * steps),
                "window": self.max_characters,
                "evaluation_windows": self.evaluation_texts,
            }
        )


class TaskConfig(Config):
    """One task: an entry of the section `tasks`.

    Attributes:
        noise: typing noise on the training texts.
        training: steps or epochs, batches and learning rate.
    """

    data: str = Field(description="a key of `labeled`")
    model: Literal["network", "ngrams"] = Field(
        default="network",
        description="ngrams: counted character n-grams alone, with the settings of `ngrams`",
    )
    noised_copies: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(),
        description="with `model: ngrams`: rates of noised copies of the training texts, of the kinds of `noise`",
    )
    composition: str | None = Field(
        default=None, description="a key of `compositions`, the model to start from; null: random weights"
    )
    train: Literal["all", "top", "heads", "probe"] = Field(
        default="all",
        description="all: every weight; top: the parts over the frozen base; heads: the head over frozen features; "
        "probe: logistic or ridge regression on frozen features",
    )
    embedder: EmbedderConfig | None = Field(default=None, description="without a composition: the architecture")
    head: HeadConfig | None = Field(default=None, description="null: the default head of the data's task")
    noise: TaskNoise = Field(default_factory=TaskNoise)
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        default=None, description="weight of each label in the loss; balanced: inverse to its frequency"
    )
    ngrams: NgramsConfig | None = Field(
        default_factory=NgramsConfig,
        description="add character n-grams to the network; null: no. Only for classify and tag",
    )
    training: FineTuningConfig = Field(default_factory=FineTuningConfig)

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.model == "network":
            if self.noised_copies:
                raise ValueError(
                    "noised_copies is for `model: ngrams`, because a network draws new noise for every batch: see "
                    "`noise`. Remove it"
                )
            return self
        fields = {name: field.get_default(call_default_factory=True) for name, field in TaskConfig.model_fields.items()}
        own = {name for name in fields.keys() - _KEYS_OF_NGRAMS if getattr(self, name) != fields[name]}
        if isinstance(self.head, TagsConfig) and self.head == TagsConfig(unit=self.head.unit):
            own.discard("head")
        if foreign := sorted(own):
            raise ValueError(
                f"{foreign[0]} is for networks, but model is ngrams. Remove it; the keys are "
                f"{', '.join(sorted(_KEYS_OF_NGRAMS))}"
            )
        if self.ngrams is None or self.ngrams.weight != "auto":
            raise ValueError("with `model: ngrams`, `ngrams` has sizes, max_features and strength, but no weight")
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.composition is None and self.train != "all":
            raise ValueError(
                f"train: {self.train} needs a composition, because random weights are not worth keeping. Set "
                "`composition`, or train: all"
            )
        if self.composition is not None and self.embedder is not None:
            raise ValueError("set `composition` or `embedder`, not both: a composition has its architecture")
        return self


class EnsembleConfig(Config):
    """Several tasks on the same data as one model: an entry of the section `ensembles`."""

    parts: tuple[str, ...] = Field(min_length=1, description="keys of `tasks`, all with the same `data`")
    subsets: bool = Field(
        default=True, description="leave out parts that do not help on the validation texts; false: use all"
    )
    weights: Literal["auto", "equal", "fixed", "by_text"] = Field(
        default="auto",
        description="equal: one weight for all parts; fixed: one per part; by_text: per part, depending on how noisy a "
        "text looks; auto: what the validation texts prefer",
    )
    noise: TaskNoise = Field(
        default_factory=TaskNoise,
        description="noised copies of the validation texts: `share` is their weight against the clean texts",
    )
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="for `multilabel`: probability from which a label is predicted"
    )
    validation_texts: int = Field(default=2000, ge=1, description="validation texts to read at most, drawn at random")
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if repeated := [part for part in self.parts if self.parts.count(part) > 1]:
            raise ValueError(f"parts must differ, got {repeated[0]!r:.80} twice. Remove one")
        return self
