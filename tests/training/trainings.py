"""A one-second training of a small base, for tests."""

import tempfile
from pathlib import Path
from typing import Any

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component, OverBase
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import Windows
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives import (
    EntitiesConfig,
    MaskedCharactersConfig,
    NextCharactersConfig,
    Objective,
    ObjectiveConfig,
    ObjectiveContext,
)
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import Report, null_report
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.word_targets import read_targets
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import train
from cclm_core.training.module import TrainingModule
from cclm_core.training.trainee import Data, Point
from tests.catalogues import members, variants
from tests.objectives.teachers import vectors, word_vectors

SHAPE = EmbedderConfig(
    embedding=EmbeddingConfig(width=32, ngram_buckets=256),
    encoder=HourglassConfig(core_width=64, num_layers=1, num_heads=2, width=48),
)
CONFIG = TrainingConfig(
    steps=24, batch_size=4, window=48, warmup_steps=4, evaluate_every=5, evaluation_windows=4, checkpoint_every=4
)
SEED = 7

_FOLDER = tempfile.TemporaryDirectory(prefix="cclm-teachers-")

SMALL: dict[str, dict[str, Any]] = {
    "whole_texts": {"min_characters": 6, "pairs": "copies"},
    "vectors": word_vectors(Path(_FOLDER.name) / "words.txt"),
    "distill-vectors": {"teacher": vectors(Path(_FOLDER.name)), "unit": "documents", "targets": "texts_and_words"},
}
"""Settings of objectives for a corpus of short sentences."""

_SLOW = {"distill-huggingface"}  # needs transformers; tests/objectives/test_distill.py

OBJECTIVES: dict[str, Any] = {
    name: type(config).model_validate(config.model_dump() | SMALL.get(name, {}))
    for member in members(ObjectiveConfig)
    for name, config in variants(member)
    if name not in _SLOW
} | {"next_characters-backward": NextCharactersConfig(direction="backward")}
"""All objectives in the catalogue, with each of their losses and directions."""


def encoder_for(preprocessor: Preprocessor, *objectives: Objective) -> Embedder | OverBase:
    """A new base that suits the objectives: causal if needed, or a component of its own that reads backward."""
    needs_causal = any(objective.needs_causal or objective.needs_anticausal for objective in objectives)
    encoder = SHAPE.encoder.model_copy(update={"causal": needs_causal})
    embedder = Embedder(preprocessor, SHAPE.model_copy(update={"encoder": encoder}))
    if not any(objective.needs_anticausal for objective in objectives):
        return embedder
    return OverBase(embedder, Component(ComponentCard.over(embedder, "before", "any", encoder, True, backward=True)))


def new_module(
    corpus: EncodedCorpus, *configs: ObjectiveConfig, noise_rate: float = 0.02, shared_pass: bool = False
) -> TrainingModule:
    """A new base with these objectives; causal if an objective needs it."""
    context = ObjectiveContext(
        width=SHAPE.encoder.width,
        preprocessor=corpus.preprocessor,
        noise=TrainingNoise(rate=noise_rate),
        entity_labels=tuple(corpus.entity_labels),
        document_labels=corpus.document_labels,
        words=read_targets(corpus.folder),
    )
    with seeded_initialization(1):
        untrained = [config.build(context) for config in configs]
    with seeded_initialization(1):
        encoder = encoder_for(corpus.preprocessor, *untrained)
        return TrainingModule(encoder, [(config.build(context), 1.0) for config in configs], shared_pass)


def data(corpus: EncodedCorpus, config: TrainingConfig) -> Data:
    """Windows of the train and validation splits."""
    return Data(*(Windows(corpus.split(split), config.window) for split in ("train", "validation")))


def store(folder: Path) -> Checkpoints:
    """The checkpoints in `folder`, with a fixed identity."""
    return Checkpoints(folder, "identity" * 2)


def run(
    encoded: Path, checkpoints: Path, report: Report = null_report, workers: int = 1, **changes: object
) -> tuple[TrainingModule, list[Point]]:
    """Trains on masked characters and entities with `CONFIG` and `changes`. Returns the module and the curve."""
    corpus = EncodedCorpus.open(encoded)
    config = CONFIG.model_copy(update=changes)
    module = new_module(corpus, MaskedCharactersConfig(), EntitiesConfig())
    return module, train(module, data(corpus, config), config, SEED, store(checkpoints), report, workers)
