"""A training that takes a second: a small base over a corpus of sixty sentences."""

from pathlib import Path
from typing import Any

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import Windows
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Surroundings
from cclm_core.objectives.catalogue import ObjectiveConfig, build
from cclm_core.objectives.entities import EntitiesConfig
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.runtime.random import seeded_initialisation
from cclm_core.runtime.reporting import Report, silent
from cclm_core.text.word_targets import read_targets
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.data import Data
from cclm_core.training.loop import Point, Trainee, train

SHAPE = EmbedderConfig(
    embedding=EmbeddingConfig(width=32, ngram_buckets=256),
    encoder=HourglassConfig(core_width=64, num_layers=1, num_heads=2, width=48),
)
CONFIG = TrainingConfig(
    steps=24, batch_size=4, window=48, warmup_steps=4, evaluate_every=5, evaluation_windows=4, checkpoint_every=4
)
SEED = 7

TASKS: dict[str, dict[str, Any]] = {
    "masked_characters": {"rate": 0.2},
    "entities": {},
    "characters": {"num_bytes": 2},
    "denoise": {},
    "next_characters": {"num_ahead": 2},
    "masked_words": {"loss": {"kind": "sampled_softmax", "num_draws": 8}},
}
"""What each objective of the catalogue is tested with: a new one gets a line here."""


def trainee(
    corpus: EncodedCorpus, *configs: ObjectiveConfig, noise_rate: float = 0.02, causal: bool = False
) -> Trainee:
    """A new base with these objectives."""
    shape = SHAPE.model_copy(update={"encoder": SHAPE.encoder.model_copy(update={"causal": causal})})
    with seeded_initialisation(1):
        embedder = Embedder(corpus.preprocessor, shape)
        labels, words = tuple(corpus.entity_labels), read_targets(corpus.folder)
        surroundings = Surroundings(embedder.width, corpus.preprocessor, labels, words=words)
        noise = TrainingNoise(rate=noise_rate)
        return Trainee(embedder, [(build(config, noise, surroundings), 1.0) for config in configs])


def data(corpus: EncodedCorpus, config: TrainingConfig) -> Data:
    """Its train and validation split."""
    return Data(*(Windows(corpus.split(split), config.window) for split in ("train", "validation")))


def store(folder: Path) -> Checkpoints:
    """The checkpoints that all trainings here keep in `folder`."""
    return Checkpoints(folder, "identity" * 2)


def run(
    encoded: Path, checkpoints: Path, report: Report = silent, workers: int = 1, **changes: object
) -> tuple[Trainee, list[Point]]:
    """Trains on masked characters and entities, with `changes` of the configuration, to the end."""
    corpus = EncodedCorpus.open(encoded)
    config = CONFIG.model_copy(update=changes)
    student = trainee(corpus, MaskedCharactersConfig(), EntitiesConfig())
    return student, train(student, data(corpus, config), config, SEED, store(checkpoints), report, workers)
