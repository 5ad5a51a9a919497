"""What an encoder learns in equal processor time: held-out bits per masked character, by stride and n-grams, and peers.

    python benchmarks/quality.py [--seconds 60] [--seeds 1,2,3] [--processes 1] [--json]

Our default base; the same with strides 1, 2, 4 and 8, each with hashed n-grams of 2 to 5 characters and without; and
the peers of peers.py, of about the size of those with n-grams: the original's architecture, CANINE, and full attention.
All learn to tell masked characters of the same text by the same loop (`cclm_core.training`), in bf16, with one thread,
32 windows of 256 characters a step. A short run first tells how many steps fit into the given processor seconds, so
that each has its whole learning-rate schedule in them. The held-out text is one paragraph in twenty of the same novels.
The peers choose between two learning rates, by the first seed; ours have the default.

A row has the median over the seeds and, in `peer`, the range and what was trained; its ratio is against the default,
over 1 where that one is better.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from encoding import paragraphs
from peers import ATTENTION, LENGTH, Canine, Original
from rows import Row, show
from torch import nn

from cclm_core.corpus.windows import Windows
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.runtime.random import derive, seeded_initialisation
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import Data, train
from cclm_core.training.module import TrainingModule

STRIDES, RATES, OURS_RATE, EVERY = (1, 2, 4, 8), (1e-3, 2e-3), 4e-3, 20
DEFAULT = "ours, the default"
NGRAMS = (2, 3, 4, 5)
PEERS = ("original", "canine", "attention")
FEW, MORE = 2, 12  # steps of the two short runs whose difference is the time of a step


class Learned(NamedTuple):
    """What came of one training: bits, processor seconds, steps, characters a second, parameters of the encoder."""

    bits: float
    seconds: float
    steps: int
    speed: float
    parameters: int


def data() -> tuple[Preprocessor, Data]:
    """The vocabulary and the windows to train and to measure on."""
    _, texts = paragraphs()
    held_out = derive(1, "held out").random(len(texts)) < 1 / EVERY
    preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)

    def windows(chosen: bool) -> Windows:
        parts = [
            preprocessor.encode(f"{text}\n\n") for text, kept in zip(texts, held_out, strict=True) if kept == chosen
        ]
        ids = np.concatenate(parts)
        return Windows(SimpleNamespace(ids=ids, tags=np.zeros(len(ids), np.uint8)), LENGTH)  # type: ignore[arg-type]

    return preprocessor, Data(windows(chosen=False), windows(chosen=True))


def encoders(preprocessor: Preprocessor) -> dict[str, Callable[[], Any]]:
    """Every encoder by name."""

    def ours(stride: int, embedding: EmbeddingConfig) -> Callable[[], nn.Module]:
        config = EmbedderConfig(embedding=embedding, encoder=HourglassConfig(stride=stride))
        return lambda: Embedder(preprocessor, config)

    made: dict[str, Callable[[], Any]] = {DEFAULT: lambda: Embedder(preprocessor, EmbedderConfig())}
    for stride in STRIDES:
        made[f"ours, stride {stride}, n-grams"] = ours(stride, EmbeddingConfig(ngram_sizes=NGRAMS))
        made[f"ours, stride {stride}, no n-grams"] = ours(stride, EmbeddingConfig(ngram_sizes=()))
    num_ids = preprocessor.num_ids
    made |= {"original": lambda: Original(num_ids), "canine": Canine}
    return made | {"attention": lambda: Embedder(preprocessor, ATTENTION)}


def learn(name: str, seed: int, rate: float, seconds: float) -> Learned:
    """Trains the encoder `name` for about `seconds` of processor time, its two evaluations not counted."""
    torch.set_num_threads(1)
    preprocessor, text = data()

    def trained(steps: int, evaluation_windows: int) -> Learned:
        with seeded_initialisation(seed):
            encoder = encoders(preprocessor)[name]()
            context = ObjectiveContext(width=encoder.width, preprocessor=preprocessor, noise=TrainingNoise())
            objective = MaskedCharactersConfig().build(context)
        config = TrainingConfig(
            steps=steps, learning_rate=rate, warmup_steps=min(50, steps // 4), evaluation_windows=evaluation_windows,
            evaluate_every=steps + 1, checkpoint_every=steps + 1, window=LENGTH,
        )  # fmt: skip
        evaluated: list[float] = []
        module = TrainingModule(encoder, [(objective, 1.0)])
        with tempfile.TemporaryDirectory() as folder:
            kept, start = Checkpoints(Path(folder) / "kept", "0" * 16), time.process_time()
            curve = train(module, text, config, seed, kept, lambda *_: evaluated.append(time.process_time() - start))
            spent = time.process_time() - start - 2 * evaluated[0]  # one evaluation before the first step, one after
        parameters = sum(parameter.numel() for parameter in encoder.parameters())
        bits = curve[-1]["held_out_bits_per_masked_character"]
        return Learned(bits, spent, steps, steps * config.batch_size * LENGTH / spent, parameters)

    _, few, more = (trained(steps, 1).seconds for steps in (FEW, FEW, MORE))  # the first of a process is slower
    learned = trained(max(1, round(seconds * (MORE - FEW) / (more - few))), 512)
    print(f"{name}, seed {seed}, learning rate {rate:g}: {learned}", file=sys.stderr, flush=True)
    return learned


def rows(seconds: float, seeds: list[int], processes: int, names: list[str]) -> list[Row]:
    """One row for each encoder, the default first."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        tried = {(name, rate): pool.submit(learn, name, seeds[0], rate, seconds)
                 for name in names for rate in (RATES if name in PEERS else (OURS_RATE,))}  # fmt: skip
        best = {name: min((rate for other, rate in tried if other == name),
                          key=lambda rate, name=name: tried[name, rate].result().bits) for name in names}  # fmt: skip
        more = {name: [pool.submit(learn, name, seed, best[name], seconds) for seed in seeds[1:]] for name in names}
        found = {name: [tried[name, best[name]].result(), *(one.result() for one in more[name])] for name in names}
    median = {name: statistics.median(one.bits for one in results) for name, results in found.items()}
    made = []
    for name, results in found.items():
        bits = [one.bits for one in results]
        what = (
            f"{min(bits):.3f} to {max(bits):.3f}; {results[0].parameters / 1e6:.1f} M, "
            f"{statistics.median(one.speed for one in results):,.0f} characters/s, "
            f"{statistics.median(one.steps for one in results):.0f} steps, learning rate {best[name]:g}, "
            f"{statistics.median(one.seconds for one in results):.0f} s"
        )
        ratio = median[DEFAULT] / median[name] if DEFAULT in median else None
        made.append(Row(f"quality/{name}", median[name], "bits/masked character", what, ratio))
    return made


def main() -> None:
    """Reads the command line and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="processor seconds of each training")
    parser.add_argument("--seeds", default="1,2,3", help="whole numbers, joined by commas")
    parser.add_argument("--processes", type=int, default=1, help="trainings side by side")
    parser.add_argument("--only", default="", help="names, joined by semicolons; all where empty")
    parser.add_argument("--json", action="store_true", help="one object a line")
    given = parser.parse_args()
    names = given.only.split(";") if given.only else list(encoders(data()[0]))
    seeds = [int(seed) for seed in given.seeds.split(",")]
    show(f"After {given.seconds:g} processor seconds", rows(given.seconds, seeds, given.processes, names))


if __name__ == "__main__":
    main()
