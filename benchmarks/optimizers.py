"""Compares AdamW and Muon on the default base after equal processor seconds.

    python benchmarks/optimizers.py [--seconds 60] [--seeds 1,2,3] [--sides SIDE,SIDE] [--encoded FOLDER] [--json]

Needs an encoded corpus; `cclm run --target vocab` creates it. A side is an optimizer with its peak learning rate, such
as `adamw:8e-3` or `muon:8e-3`. Muon updates the matrices of the transformer and the linear layers, at a rate scaled to
the step size of AdamW. AdamW updates embeddings, convolutions, norms, biases and the head.

First, all sides take turns for a few steps; the times determine how many steps each side makes in the given seconds.
Then each side is trained for its number of steps with the warm-up and decay of the library, on one thread, in bf16.

Each row has the held-out bits per masked character: the median over the seeds. The peer is the first side.

Source: Muon, Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/); its rate, Liu et al. 2025 (arXiv
2502.16982).
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rows import Row, options, seed_list, show
from torch import nn

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.training.config import BaseConfig, TrainingConfig
from cclm_core.training.loop import evaluate, open_data
from cclm_core.training.module import TrainingModule
from cclm_core.training.optimizer import update
from cclm_core.training.run import TrainingInputs
from cclm_core.training.trainee import Data

SIDES = "adamw:4e-3,adamw:8e-3,adamw:16e-3,muon:8e-3,muon:16e-3"
WARM_UP, TURNS = 4, 12  # unmeasured and measured steps of each side
HELD_OUT = 512  # windows


class Joint:
    """Several optimizers behind the methods of one that a training step uses."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.param_groups = list(chain.from_iterable(optimizer.param_groups for optimizer in optimizers))

    def zero_grad(self, set_to_none: bool) -> None:
        """Clears the gradients of all optimizers."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """Makes one step of all optimizers."""
        for optimizer in self.optimizers:
            optimizer.step()


class Side(NamedTuple):
    """An optimizer and its peak learning rate."""

    kind: str
    rate: float

    @classmethod
    def parse(cls, text: str) -> "Side":
        """Parses `adamw:4e-3` or `muon:8e-3`; exits if the text is neither."""
        kind, _, rate = text.partition(":")
        if kind not in ("adamw", "muon") or not rate:
            sys.exit(f"--sides: a side must be adamw:RATE or muon:RATE, got {text!r}.")
        return cls(kind, float(rate))

    def build(self, model: nn.Module, weight_decay: float) -> Any:
        """Returns the optimizer of all parameters of a model."""
        matrices = [p for name, p in model.named_parameters() if self.kind == "muon" and is_inner_matrix(name, p)]
        inner = {id(matrix) for matrix in matrices}
        rest = [p for p in model.parameters() if id(p) not in inner]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.98), fused=True)
        if not matrices:
            return adamw
        muon = torch.optim.Muon(matrices, lr=self.rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        return Joint(muon, adamw)


def is_inner_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is the matrix of a linear layer: not an embedding, a head or a convolution."""
    return parameter.ndim == 2 and "embedding" not in name and "objectives" not in name


class Study:
    """Trains the default base on a corpus with any side.

    Args:
        encoded: folder of the encoded corpus.
    """

    def __init__(self, encoded: Path) -> None:
        self.corpus, self.config = EncodedCorpus.open(encoded), BaseConfig()
        self.training = self.config.training.model_copy(update={"evaluation_windows": HELD_OUT})
        self.data: Data = open_data(self.corpus, self.training)

    def module(self, seed: int) -> TrainingModule:
        """Returns the base with new weights and its objectives."""
        with seeded_initialization(seed):
            embedder = Embedder(self.corpus.preprocessor, self.config.embedder)
            context = TrainingInputs(corpus=self.corpus, noise=TrainingNoise()).context(embedder.width)
            parts = self.config.objectives
            return TrainingModule(embedder, [(part.task.build(context), part.loss_weight) for part in parts])

    def stepper(self, side: Side, module: TrainingModule, config: TrainingConfig, seed: int) -> Callable[[int], float]:
        """Returns a function that makes the step with a number (from 0) and returns its processor seconds."""
        optimizer, order = side.build(module, config.weight_decay), derive_seed(seed, "windows")

        def step(number: int) -> float:
            """Makes a step; returns its processor seconds without those of the batch."""
            batch = self.data.training.batch(number, config.batch_size, order)
            examples = module.examples(batch, True, seed, "training", number)
            start = time.process_time()
            update(module, optimizer, [examples], config, number)
            return time.process_time() - start

        return step

    def seconds_per_step(self, sides: list[Side]) -> dict[Side, float]:
        """Returns the processor seconds per step of each side: medians of interleaved steps."""
        steppers = {side: self.stepper(side, self.module(1), self.training, 1) for side in sides}
        turns = [{side: step(number) for side, step in steppers.items()} for number in range(WARM_UP + TURNS)]
        return {side: statistics.median(times[side] for times in turns[WARM_UP:]) for side in sides}

    def bits(self, side: Side, steps: int, seed: int) -> float:
        """Trains for a number of steps; returns the held-out bits per masked character."""
        config = self.training.model_copy(update={"steps": steps, "learning_rate": side.rate})
        module = self.module(seed)
        step = self.stepper(side, module, config, seed)
        seconds = sum(map(step, range(steps)))
        held_out = self.data.held_out.fixed(config.evaluation_windows, 1)
        bits = evaluate(module, held_out, config, 1)["held_out_bits_per_masked_character"]
        text = (
            f"{side.kind}:{side.rate:g}, seed {seed}: {steps} steps, {seconds:.0f} processor seconds, {bits:.3f} bits"
        )
        print(text, file=sys.stderr, flush=True)
        return bits


def rows(encoded: Path, sides: list[Side], seconds: float, seeds: list[int]) -> list[Row]:
    """Measures one row per side.

    Args:
        encoded: folder of the encoded corpus.
        sides: the optimizers to compare; the first is the peer.
        seconds: processor seconds of each training.
        seeds: seeds of the trainings.
    """
    torch.set_num_threads(1)
    study = Study(encoded)
    step_seconds = study.seconds_per_step(sides)
    bits = {side: [study.bits(side, round(seconds / step_seconds[side]), seed) for seed in seeds] for side in sides}
    medians = {side: statistics.median(bits[side]) for side in sides}
    first = sides[0]
    table = []
    for side in sides:
        values = " ".join(f"{value:.3f}" for value in bits[side])
        peer = f"{first.kind} {first.rate:g}: {medians[first]:.3f} bits"
        peer += f"; {step_seconds[side] * 1e3:.0f} ms per step; seeds {values}"
        row = Row(f"{side.kind}/{side.rate:g}", medians[side], "bits", peer, medians[side] / medians[first], "lower")
        table.append(row)
    return table


def main() -> None:
    """Runs the benchmark and prints its rows."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="processor seconds of each training (default: 60)")
    parser.add_argument("--seeds", type=seed_list, default="1,2,3", help="seeds, separated by commas (default: 1,2,3)")
    parser.add_argument("--sides", default=SIDES, help=f"sides, separated by commas (default: {SIDES})")
    parser.add_argument("--encoded", type=Path, default=Path("data/encoded"), help="corpus (default: data/encoded)")
    args = parser.parse_args()
    sides = [Side.parse(text) for text in args.sides.split(",")]
    table = rows(args.encoded, sides, args.seconds, args.seeds)
    show(f"Held-out bits per masked character after {args.seconds:g} processor seconds", table, args.json)


if __name__ == "__main__":
    main()
