"""A file of a user's own code, with one block of most families; tests copy it into `blocks/` of a project."""

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.encoders.base import Encoder
from cclm_core.noise.kinds import TypingKind
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.runtime.blocks import block
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import NUM_SPECIAL


@block("encoder")
class TableConfig(Config):
    """One linear layer."""

    learning_rate: ClassVar[float] = 1e-3
    causal: ClassVar[bool] = False
    kind: Literal["table.v1"] = "table.v1"
    width: int = Field(default=16, ge=1, description="features per character")

    def build(self, input_width: int) -> "Table":
        return Table(input_width, self)


class Table(Encoder):
    def __init__(self, input_width: int, config: TableConfig) -> None:
        super().__init__()
        self.width = config.width
        self.layer = nn.Linear(input_width, config.width)

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:  # noqa: ARG002
        encoded: Tensor = self.layer(features) * mask[..., None]
        return encoded


@block("objective")
class ParityConfig(Config):
    """Predicts whether the id of each character is odd."""

    objective: Literal["parity.v1"] = "parity.v1"
    weight: float = Field(default=1.0, gt=0, description="factor of the loss")

    def build(self, context: ObjectiveContext) -> "Parity":
        return Parity(self, context)


class Parity(Objective):
    selection_metric = "bits_per_parity"

    def __init__(self, config: ParityConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config
        self.head = nn.Linear(context.width, 2)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        noised = self.noised(batch, generator, training)
        positions = np.flatnonzero(noised.ids >= NUM_SPECIAL)
        ids = noised.ids.reshape(-1)[positions].astype(np.int64)
        targets = {"positions": torch.from_numpy(positions), "ids": torch.from_numpy(ids % 2)}
        return Example(torch.from_numpy(noised.ids), targets)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        logits = self.head(features.flatten(0, 1)[example.targets["positions"]]).float()
        total = nn.functional.cross_entropy(logits, example.targets["ids"], reduction="sum")
        count = len(example.targets["ids"])
        sums = Sums(total.item() / math.log(2), count)
        return self.config.weight * total / max(1, count), {self.selection_metric: sums}


@block("schedule")
class SawtoothConfig(Config):
    """0 and 1 in turn."""

    schedule: Literal["sawtooth.v1"] = "sawtooth.v1"

    def at(self, step: int) -> float:
        return float(step % 2)


block("noise", "stutter.v1")(
    TypingKind(description="Writes a letter three times.", output=(("current", 0), ("current", -1), ("current", -1)))
)
