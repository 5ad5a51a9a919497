"""A one-second training of a small base, for tests."""

from pathlib import Path
from typing import Any

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.windows import Windows
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives import EntitiesConfig, MaskedCharactersConfig, ObjectiveConfig, ObjectiveContext
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import Report, null_report
from cclm_core.text.word_targets import read_targets
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import train
from cclm_core.training.module import TrainingModule
from cclm_core.training.trainee import Data, Point
from tests.catalogues import members, variants

SHAPE = EmbedderConfig(
    embedding=EmbeddingConfig(width=32, ngram_buckets=256),
    encoder=HourglassConfig(core_width=64, num_layers=1, num_heads=2, width=48),
)
CONFIG = TrainingConfig(
    steps=24, batch_size=4, window=48, warmup_steps=4, evaluate_every=5, evaluation_windows=4, checkpoint_every=4
)
SEED = 7

OBJECTIVES: dict[str, Any] = dict(variant for member in members(ObjectiveConfig) for variant in variants(member))
"""All objectives in the catalogue, with each of their losses."""


def new_module(corpus: EncodedCorpus, *configs: ObjectiveConfig, noise_rate: float = 0.02) -> TrainingModule:
    """A new base with these objectives; causal if an objective needs it."""
    context = ObjectiveContext(
        width=SHAPE.encoder.width,
        preprocessor=corpus.preprocessor,
        noise=TrainingNoise(rate=noise_rate),
        entity_labels=tuple(corpus.entity_labels),
        words=read_targets(corpus.folder),
    )
    with seeded_initialization(1):
        causal = any(config.build(context).needs_causal for config in configs)
    shape = SHAPE.model_copy(update={"encoder": SHAPE.encoder.model_copy(update={"causal": causal})})
    with seeded_initialization(1):
        embedder = Embedder(corpus.preprocessor, shape)
        return TrainingModule(embedder, [(config.build(context), 1.0) for config in configs])


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
