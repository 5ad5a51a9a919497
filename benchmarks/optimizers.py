"""AdamW against Muon for the inner matrices: the default base, equal processor seconds, real text.

    python benchmarks/optimizers.py [--seconds 60] [--seeds 1,2,3] [--sides SIDE,SIDE] [--encoded FOLDER] [--json]

Needs an encoded corpus (`cclm run --target vocab` makes it). A side is an optimizer and its peak learning rate,
`adamw:8e-3` or `muon:8e-3`. Muon steps the matrices of the transformer and the linear layers, at a rate scaled to the
size of AdamW's steps; embeddings, convolutions, norms, biases and the head stay with AdamW.

First all sides take turns at a few steps each, which says how many steps each makes in the seconds given, whatever else
the machine does; then each is trained so many, with the warm-up and the decay of the library. One thread, bf16.
A row is the held-out figure, median over the seeds; its ratio is to the first side.

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
from rows import Row, show
from torch import nn

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.embedder import Embedder
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.training.config import BaseConfig, TrainingConfig
from cclm_core.training.loop import Data, evaluate, open_data
from cclm_core.training.module import TrainingModule
from cclm_core.training.optimizer import update
from cclm_core.training.run import TrainingInputs

SIDES = "adamw:4e-3,adamw:8e-3,adamw:16e-3,muon:8e-3,muon:16e-3"
WARM_UP, TURNS = 4, 12  # steps of each side that are not measured, and that are
HELD_OUT = 512


class Joint:
    """Several optimizers as one, as far as a training step needs it."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.param_groups = list(chain.from_iterable(one.param_groups for one in optimizers))

    def zero_grad(self, set_to_none: bool) -> None:
        for one in self.optimizers:
            one.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        for one in self.optimizers:
            one.step()


class Side(NamedTuple):
    """An optimizer and its peak learning rate."""

    kind: str
    rate: float

    @classmethod
    def parse(cls, text: str) -> "Side":
        """Reads `adamw:4e-3` or `muon:8e-3`."""
        kind, _, rate = text.partition(":")
        if kind not in ("adamw", "muon") or not rate:
            sys.exit(f"a side must be adamw:RATE or muon:RATE, got {text!r}.")
        return cls(kind, float(rate))

    def build(self, model: nn.Module, weight_decay: float) -> Any:
        """The optimizer over all parameters of a model."""
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
    """Whether it is a weight between features: no table of embeddings, no head, no convolution."""
    return parameter.ndim == 2 and "embedding" not in name and "objectives" not in name


class Study:
    """The default base over a corpus, trained by any side."""

    def __init__(self, encoded: Path) -> None:
        self.corpus, self.config = EncodedCorpus.open(encoded), BaseConfig()
        self.training = self.config.training.model_copy(update={"evaluation_windows": HELD_OUT})
        self.data: Data = open_data(self.corpus, self.training)

    def module(self, seed: int) -> TrainingModule:
        """The base with new weights, and its objective."""
        with seeded_initialisation(seed):
            embedder = Embedder(self.corpus.preprocessor, self.config.embedder)
            context = TrainingInputs(corpus=self.corpus, noise=TrainingNoise()).context(embedder.width)
            parts = self.config.objectives
            return TrainingModule(embedder, [(part.task.build(context), part.gradient_factor) for part in parts])

    def stepper(self, side: Side, module: TrainingModule, config: TrainingConfig, seed: int) -> Callable[[int], float]:
        """What makes step number so and so (from 0), and gives its processor seconds."""
        optimizer, order = side.build(module, config.weight_decay), derive_seed(seed, "windows")

        def step(number: int) -> float:
            batch = self.data.training.batch(number, config.batch_size, order)
            examples = module.examples(batch, True, seed, "training", number)
            start = time.process_time()
            update(module, optimizer, [examples], config, number)
            return time.process_time() - start

        return step

    def seconds_per_step(self, sides: list[Side]) -> dict[Side, float]:
        """Processor seconds of a step of each side, the sides taking turns: medians."""
        steppers = {side: self.stepper(side, self.module(1), self.training, 1) for side in sides}
        taken = [{side: step(number) for side, step in steppers.items()} for number in range(WARM_UP + TURNS)]
        return {side: statistics.median(one[side] for one in taken[WARM_UP:]) for side in sides}

    def bits(self, side: Side, steps: int, seed: int) -> float:
        """Held-out bits per masked character after so many steps."""
        config = self.training.model_copy(update={"steps": steps, "learning_rate": side.rate})
        module = self.module(seed)
        step = self.stepper(side, module, config, seed)
        used = sum(map(step, range(steps)))
        held_out = self.data.held_out.fixed(config.evaluation_windows, 1)
        found = evaluate(module, held_out, config, 1)["held_out_bits_per_masked_character"]
        print(f"{side} seed {seed}: {steps} steps, {used:.0f} s, {found:.4f} bits", file=sys.stderr, flush=True)
        return found


def rows(encoded: Path, sides: list[Side], seconds: float, seeds: list[int]) -> list[Row]:
    """One row a side."""
    torch.set_num_threads(1)
    study = Study(encoded)
    each = study.seconds_per_step(sides)
    bits = {side: [study.bits(side, round(seconds / each[side]), seed) for seed in seeds] for side in sides}
    first = statistics.median(bits[sides[0]])
    made = []
    for side in sides:
        middle = statistics.median(bits[side])
        about = f"{each[side] * 1e3:.0f} ms a step; seeds {' '.join(f'{one:.3f}' for one in bits[side])}"
        made.append(Row(f"{side.kind}/{side.rate:g}", middle, "bits", about, middle / first))
    return made


def option(name: str, default: str) -> str:
    """The value behind `--name` on the command line."""
    return sys.argv[sys.argv.index(f"--{name}") + 1] if f"--{name}" in sys.argv else default


def main() -> None:
    """Shows the rows."""
    sides = [Side.parse(text) for text in option("sides", SIDES).split(",")]
    seeds = [int(seed) for seed in option("seeds", "1,2,3").split(",")]
    seconds = float(option("seconds", "60"))
    made = rows(Path(option("encoded", "data/encoded")), sides, seconds, seeds)
    show(f"Held-out bits per masked character after {seconds:g} processor seconds", made)


if __name__ == "__main__":
    main()
