"""Measures what training saves: one pass of the encoder for several objectives, and cached features of a frozen base.

    python benchmarks/sharing.py [--json]

- `shared pass`: the default base on objectives that mask, with `base.shared_pass` and without.
- `cached features`: the default component on `entities` over the frozen default base, with
  `training.cache_features` (all windows stored) and without.

One process, one thread, processor seconds. The sides take turns; a value is the median over the turns, a ratio the
median of the ratios of the turns.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from encoding import paragraphs
from rows import Row, options, show

from cclm_core.corpus.encoded import EncodedCorpus, EncodedWriter
from cclm_core.corpus.records import Entity, Record
from cclm_core.corpus.windows import Windows
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.catalogue import CharactersConfig, EntitiesConfig, MaskedCharactersConfig, MaskedWordsConfig
from cclm_core.runtime.device import autocast
from cclm_core.runtime.random import seeded_initialization
from cclm_core.runtime.reporting import format_number
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig, VocabularyConfig
from cclm_core.text.word_targets import FILE, WordTargets
from cclm_core.training.component import component_module, new_component
from cclm_core.training.config import BaseConfig, ComponentConfig, FeatureCacheConfig, TrainingConfig
from cclm_core.training.features import cached_features
from cclm_core.training.module import TrainingModule
from cclm_core.training.optimizer import build_optimizer, update
from cclm_core.training.run import TrainingInputs

TURNS, STEPS, CHARACTERS = 3, 3, 300_000
CONFIG = TrainingConfig(batch_size=32, window=256)
UNIT = "characters/s"
OBJECTIVES = {
    "masked characters and words": (MaskedCharactersConfig(), MaskedWordsConfig()),
    "masked characters, words and bytes": (MaskedCharactersConfig(), MaskedWordsConfig(), CharactersConfig()),
}


def rows() -> list[Row]:
    """Measures all figures in this process."""
    torch.set_num_threads(1)
    _, texts = paragraphs()
    with tempfile.TemporaryDirectory() as folder:
        inputs = _inputs(Path(folder), texts)
        figures = [_shared_pass(name, inputs, tasks) for name, tasks in OBJECTIVES.items()]
        return [*figures, _cached_features(inputs, Path(folder))]


def _inputs(folder: Path, texts: list[str]) -> TrainingInputs:
    """Encodes the first texts; the first word of each is its entity."""
    size, records = 0, []
    for number, text in enumerate(texts):
        entities = (Entity(0, len(text.split()[0]), "FIRST"),)
        records.append(Record(str(number), text.strip(), None, "g", None, None, entities, "train"))
        size += len(text)
        if size >= CHARACTERS:
            break
    words = TargetsConfig(max_targets=4000)
    names = [record.text for record in records]
    preprocessor = Preprocessor(VocabularyConfig(words=words)).fit(names)
    with EncodedWriter(folder, preprocessor, ["FIRST"]) as writer:
        for _ in writer.write(records):
            pass
    targets = WordTargets.fit(names, words, preprocessor).with_counts(names)
    targets.save(folder / FILE)
    return TrainingInputs(corpus=EncodedCorpus.open(folder), noise=TrainingNoise(rate=0), words=targets)


def _shared_pass(name: str, inputs: TrainingInputs, tasks: tuple[Any, ...]) -> Row:
    modules = {shared: _base(inputs, tasks, shared) for shared in (False, True)}
    speeds = _compare({shared: _stepper(module, inputs.corpus) for shared, module in modules.items()})
    return _row(f"shared pass/{name}", speeds[True], speeds[False], "one pass each")


def _base(inputs: TrainingInputs, tasks: tuple[Any, ...], shared: bool) -> TrainingModule:
    with seeded_initialization(1):
        base = Embedder(inputs.corpus.preprocessor, BaseConfig().embedder)
        context = inputs.context(base.width)
        return TrainingModule(base, [(task.build(context), 1.0) for task in tasks], shared)


def _cached_features(inputs: TrainingInputs, folder: Path) -> Row:
    with seeded_initialization(1):
        base = Embedder(inputs.corpus.preprocessor, BaseConfig().embedder).freeze()
    config = CONFIG.model_copy(update={"cache_features": FeatureCacheConfig(max_gigabytes=20)})
    component, objective = new_component(base, "entities", ComponentConfig(task=EntitiesConfig()), 1, inputs)
    plain, other_objective = new_component(base, "entities", ComponentConfig(task=EntitiesConfig()), 1, inputs)
    with cached_features(folder / "features", base, component, objective, config) as cache:
        assert cache is not None
        modules = {False: component_module(base, plain, other_objective)}
        modules[True] = component_module(base, component, objective, cache=cache)
        windows = Windows(inputs.corpus.split("train"), config.window, moving=False)
        for number in range(windows.batches_per_epoch(config.batch_size)):
            with torch.no_grad(), autocast(torch.device("cpu"), config.precision):
                cache.features(torch.from_numpy(windows.batch(number, config.batch_size, 1).ids))
        speeds = _compare({on: _stepper(module, inputs.corpus, moving=False) for on, module in modules.items()})
    return _row("cached features/entities", speeds[True], speeds[False], "the base runs in every step")


def _stepper(module: TrainingModule, corpus: EncodedCorpus, moving: bool = True) -> Callable[[int], None]:
    """A function that makes the training step of a number, examples included."""
    optimizer = build_optimizer(module, CONFIG)
    windows = Windows(corpus.split("train"), CONFIG.window, moving=moving)

    def step(number: int) -> None:
        """Makes one training step."""
        batch = windows.batch(number, CONFIG.batch_size, 1)
        update(module, optimizer, [module.examples(batch, True, 1, "training", number)], CONFIG, number)

    return step


def _compare(sides: dict[bool, Callable[[int], None]]) -> dict[bool, list[float]]:
    """Characters per second of each side, one per turn; the first turn warms up."""
    speeds: dict[bool, list[float]] = {side: [] for side in sides}
    for turn in range(TURNS + 1):
        for side, step in sides.items():
            start = time.process_time()
            for number in range(turn * STEPS, (turn + 1) * STEPS):
                step(number)
            seconds = time.process_time() - start
            speeds[side] += [STEPS * CONFIG.batch_size * CONFIG.window / seconds] if turn else []
    return speeds


def _row(name: str, values: list[float], peers: list[float], what: str) -> Row:
    ratio = statistics.median(value / peer for value, peer in zip(values, peers, strict=True))
    peer = f"{what}: {format_number(statistics.median(peers))} {UNIT}"
    return Row(name, statistics.median(values), UNIT, peer, ratio, "higher")


if __name__ == "__main__":
    args = options(__doc__).parse_args()
    show("Shared passes and cached features", rows(), args.json)
