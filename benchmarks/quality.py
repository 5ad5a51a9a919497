"""Compares what encoders learn in equal processor time: held-out bits per masked character.

    python benchmarks/quality.py [--seconds 60] [--seeds 1,2,3] [--processes 1] [--only NAME;NAME] [--json]

The encoders:

- the default base
- the default with strides 1, 2, 4 and 8, each with hashed n-grams of 2 to 5 characters and without
- the encoders in `peers.py`, about as large as those with n-grams: the architecture of the original CCLM, CANINE, and
  full attention

All are trained to predict masked characters of the same text with the same loop (`cclm_core.training`): bf16, one
thread, 32 windows of 256 characters per step. A short run determines how many steps fit into the processor seconds, so
that each training has its full learning-rate schedule. The held-out text is a twentieth of the paragraphs. The encoders
in `peers.py` use the better of two learning rates for the first seed, the others the default.

Each row has the median over the seeds. The peer is the default base.
"""

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
from rows import Row, options, seed_list, show
from torch import nn

from cclm_core.corpus.windows import Windows
from cclm_core.encoders import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import ObjectiveContext
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.runtime.random import derive, seeded_initialization
from cclm_core.runtime.reporting import format_number
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig
from cclm_core.training.checkpoint import Checkpoints
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import train
from cclm_core.training.module import TrainingModule
from cclm_core.training.trainee import Data

STRIDES, PEER_RATES, DEFAULT_RATE, HELD_OUT_EVERY = (1, 2, 4, 8), (1e-3, 2e-3), 4e-3, 20
DEFAULT = "default"
NGRAMS = (2, 3, 4, 5)
PEERS = ("original", "canine", "attention")
FEW, MORE = 2, 12  # steps of two short runs; their difference gives the time per step


class Result(NamedTuple):
    """The result of a training.

    Args:
        bits: held-out bits per masked character.
        seconds: processor seconds without the evaluations.
        steps: number of steps.
        speed: characters per processor second.
        parameters: number of parameters of the encoder.
    """

    bits: float
    seconds: float
    steps: int
    speed: float
    parameters: int


def data() -> tuple[Preprocessor, Data]:
    """Returns the vocabulary, and the windows for training and evaluation."""
    _, texts = paragraphs()
    held_out = derive(1, "held out").random(len(texts)) < 1 / HELD_OUT_EVERY
    preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)

    def windows(of_held_out: bool) -> Windows:
        """Returns the windows of the held-out paragraphs, or of the others."""
        selected = [text for text, is_held_out in zip(texts, held_out, strict=True) if is_held_out == of_held_out]
        ids = np.concatenate([preprocessor.encode(f"{text}\n\n") for text in selected])
        return Windows(SimpleNamespace(ids=ids, tags=np.zeros(len(ids), np.uint8)), LENGTH)  # type: ignore[arg-type]

    return preprocessor, Data(windows(of_held_out=False), windows(of_held_out=True))


def encoders(preprocessor: Preprocessor) -> dict[str, Callable[[], Any]]:
    """Returns name → function that creates an encoder with new weights."""

    def hourglass(stride: int, embedding: EmbeddingConfig) -> Callable[[], nn.Module]:
        """Returns a function that creates the default base with another stride and embedding."""
        config = EmbedderConfig(embedding=embedding, encoder=HourglassConfig(stride=stride))
        return lambda: Embedder(preprocessor, config)

    factories: dict[str, Callable[[], Any]] = {DEFAULT: lambda: Embedder(preprocessor, EmbedderConfig())}
    for stride in STRIDES:
        factories[f"stride {stride}, n-grams"] = hourglass(stride, EmbeddingConfig(ngram_sizes=NGRAMS))
        factories[f"stride {stride}, no n-grams"] = hourglass(stride, EmbeddingConfig(ngram_sizes=()))
    num_ids = preprocessor.num_ids
    factories |= {"original": lambda: Original(num_ids), "canine": Canine}
    return factories | {"attention": lambda: Embedder(preprocessor, ATTENTION)}


def learn(name: str, seed: int, rate: float, seconds: float) -> Result:
    """Trains an encoder for about `seconds` of processor time without its two evaluations."""
    torch.set_num_threads(1)
    preprocessor, text = data()

    def train_for(steps: int, evaluation_windows: int) -> Result:
        """Trains for a number of steps."""
        with seeded_initialization(seed):
            encoder = encoders(preprocessor)[name]()
            context = ObjectiveContext(width=encoder.width, preprocessor=preprocessor, noise=TrainingNoise())
            objective = MaskedCharactersConfig().build(context)
        config = TrainingConfig(
            steps=steps, learning_rate=rate, warmup_steps=min(50, steps // 4), evaluation_windows=evaluation_windows,
            evaluate_every=steps + 1, checkpoint_every=steps + 1, window=LENGTH,
        )  # fmt: skip
        evaluation_ends: list[float] = []
        module = TrainingModule(encoder, [(objective, 1.0)])
        with tempfile.TemporaryDirectory() as folder:
            checkpoints, start = Checkpoints(Path(folder) / "checkpoints", "0" * 16), time.process_time()

            def report(*_: object) -> None:
                """Records when an evaluation ended."""
                evaluation_ends.append(time.process_time() - start)

            curve = train(module, text, config, seed, checkpoints, report)
            # One evaluation is before the first step, one after the last.
            spent = time.process_time() - start - 2 * evaluation_ends[0]
        parameters = sum(parameter.numel() for parameter in encoder.parameters())
        bits = curve[-1]["held_out_bits_per_masked_character"]
        return Result(bits, spent, steps, steps * config.batch_size * LENGTH / spent, parameters)

    # The first training of a process is slower.
    _, few, more = (train_for(steps, 1).seconds for steps in (FEW, FEW, MORE))
    result = train_for(max(1, round(seconds * (MORE - FEW) / (more - few))), 512)
    text = f"{result.bits:.3f} bits, {result.steps} steps, {result.seconds:.0f} processor seconds"
    print(f"{name}, seed {seed}, learning rate {rate:g}: {text}", file=sys.stderr, flush=True)
    return result


def rows(seconds: float, seeds: list[int], processes: int, names: list[str]) -> list[Row]:
    """Trains all encoders; returns one row per encoder.

    Args:
        seconds: processor seconds of each training.
        seeds: seeds of the trainings; the first selects the learning rate.
        processes: number of parallel trainings.
        names: names from `encoders`.
    """
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        rates = {name: PEER_RATES if name in PEERS else (DEFAULT_RATE,) for name in names}
        first = {
            (name, rate): pool.submit(learn, name, seeds[0], rate, seconds) for name in names for rate in rates[name]
        }
        best = {name: min(rates[name], key=lambda rate, name=name: first[name, rate].result().bits) for name in names}
        more = {name: [pool.submit(learn, name, seed, best[name], seconds) for seed in seeds[1:]] for name in names}
        results = {
            name: [first[name, best[name]].result(), *(future.result() for future in more[name])] for name in names
        }
    medians = {name: statistics.median(result.bits for result in results[name]) for name in names}
    return [_row(name, results[name], best[name], medians) for name in names]


def _row(name: str, results: list[Result], rate: float, medians: dict[str, float]) -> Row:
    bits = [result.bits for result in results]
    facts = [
        f"range {min(bits):.3f} to {max(bits):.3f}",
        f"{format_number(results[0].parameters)} parameters",
        f"{format_number(statistics.median(result.speed for result in results))} characters/s",
        f"{statistics.median(result.steps for result in results):.0f} steps",
        f"learning rate {rate:g}",
        f"{statistics.median(result.seconds for result in results):.0f} processor seconds",
    ]
    ratio = None
    if DEFAULT in medians:
        facts.insert(0, f"default: {medians[DEFAULT]:.3f}")
        ratio = medians[name] / medians[DEFAULT]
    return Row(f"quality/{name}", medians[name], "bits/masked character", "; ".join(facts), ratio, "lower")


def main() -> None:
    """Runs the benchmark and prints its rows."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="processor seconds of each training (default: 60)")
    parser.add_argument("--seeds", type=seed_list, default="1,2,3", help="seeds, separated by commas (default: 1,2,3)")
    parser.add_argument("--processes", type=int, default=1, help="parallel trainings (default: 1)")
    parser.add_argument("--only", default="", help="names of encoders, separated by semicolons (default: all)")
    args = parser.parse_args()
    available = list(encoders(data()[0]))
    names = args.only.split(";") if args.only else available
    if unknown := [name for name in names if name not in available]:
        parser.error(f"--only: {unknown[0]!r} not found; use {'; '.join(available)}")
    table = rows(args.seconds, args.seeds, args.processes, names)
    show(f"Quality after {args.seconds:g} processor seconds", table, args.json)


if __name__ == "__main__":
    main()
