"""What one evaluation does: how much text it reads, and how its readouts are fitted.

The recipe is the same for every composition, so that their figures compare; all of it is stored with each result.
"""

from typing import Literal

from pydantic import Field

from cclm_core.runtime.config import Config


class ReadoutConfig(Config):
    """How a linear readout is fitted: cross-entropy, Adam with decoupled weight decay, rate falling to 0."""

    steps: int = Field(default=800, ge=1, description="steps, whatever the number of rows")
    batch_rows: int = Field(default=512, ge=1, description="rows per step")
    learning_rate: float = Field(default=0.01, gt=0, le=1, description="of the first step")
    weight_decay: float = Field(default=0.1, ge=0, description="decoupled, times the learning rate")


class CharactersProbe(Config):
    """Masked characters, predicted from the features at their places."""

    window: int = Field(default=256, ge=2, description="ids per window")
    train_windows: int = Field(default=800, ge=1, description="windows of the train split whose features are fitted")
    test_windows: int = Field(default=300, ge=1, description="windows of the test split, the same for all")
    rate: float = Field(default=0.15, gt=0, lt=1, description="share of the characters that are masked")
    mean_span: float = Field(default=2.5, ge=1, description="mean length of a masked span, in characters")
    smoothing: float = Field(default=1e-4, gt=0, lt=1, description="share of probability spread over all ids")
    readout: ReadoutConfig = ReadoutConfig()


class TagsProbe(Config):
    """Entity spans, from BIO tags predicted at every character."""

    train_characters: int = Field(default=200_000, ge=1, description="ids of the training documents that are read")
    entity_share: float = Field(
        default=0.75, gt=0, le=1, description="share of them from documents with entities, if there are so many"
    )
    rows: int = Field(default=80_000, ge=1, description="characters whose features are stored and fitted, at most")
    margin: int = Field(default=3, ge=0, description="characters around an entity that are always among the rows")
    readout: ReadoutConfig = ReadoutConfig(learning_rate=0.01, weight_decay=0.01)
    validation_characters: int = Field(default=100_000, ge=0, description="ids of the documents that choose the bonus")
    bonuses: tuple[float, ...] = Field(
        default=(0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5), min_length=1, description="for tags but O, in nats"
    )
    word_boundaries: bool = Field(default=True, description="spans neither start nor end inside a word")


class ClassesProbe(Config):
    """The label of a document, e.g. its genre, from its pooled features: see `Pool`."""

    train_documents: int = Field(default=4000, ge=1, description="labelled documents of the train split, at most")
    validation_documents: int = Field(default=200, ge=0, description="those that choose the penalty, at most")
    scale_documents: int = Field(default=60, ge=1, description="training documents that give the scale of features")
    test_documents: int = Field(default=1000, ge=1, description="labelled documents of the test split, at most")
    min_characters: int = Field(default=200, ge=1, description="shorter documents are left out")
    max_characters: int = Field(default=400, ge=1, description="what is read of a longer one, from its start")
    penalties: tuple[float, ...] = Field(
        default=(3e-4, 1e-3, 3e-3, 1e-2), min_length=1, description="L2 strengths to choose from: see `fit_penalised`"
    )
    ngrams: bool = Field(default=True, description="also fit a bag of character 1- to 3-grams, for comparison")


class EvaluationConfig(Config):
    """The section `evaluation` of params.yaml."""

    threads: int = Field(default=1, ge=1, description="CPU threads; the number can change the last bits")
    precision: Literal["bf16", "fp32"] = Field(default="bf16", description="of the model's matrix products")
    variants: tuple[str, ...] = Field(
        default=("modern",), description="documents of these variants are read, and those without a variant"
    )
    batch_characters: int = Field(default=4096, ge=1, description="ids per forward pass, padding included")
    max_window: int = Field(default=1024, ge=2, description="ids that the model reads at once; longer texts are cut")
    baseline_symbols: int = Field(default=127, ge=1, le=255, description="characters that the trigram tells apart")
    dictionary_documents: int = Field(default=50_000, ge=0, description="documents that the name dictionary reads")
    num_examples: int = Field(default=20, ge=0, description="documents shown in predictions.jsonl, per noise rate")
    contributions: bool = Field(default=True, description="also measure the composition without each component")
    characters: CharactersProbe = CharactersProbe()
    tags: TagsProbe = TagsProbe()
    classes: ClassesProbe = ClassesProbe()
