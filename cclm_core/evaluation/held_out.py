"""Validation documents to choose the parts of a probe on: clean, and as noised copies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from cclm_core.corpus.records import Entity
from cclm_core.evaluation.fusing import Rows, losses
from cclm_core.evaluation.metrics import Floats, Measurement, ratio
from cclm_core.evaluation.selection import CLEAN
from cclm_core.noise.recipe import NoiseRecipe, NoiseShape, Rates
from cclm_core.noise.text import NoisedText, TextNoiser
from cclm_core.runtime.random import derive


class SelectionNoise(NoiseShape):
    """Typing noise on copies of the validation texts, on which the parts of each probe are chosen."""

    share: float = Field(
        default=0.5, ge=0, le=1, description="weight of the noised copies against the clean texts; 0: no copies"
    )
    rates: Rates = Field(default=(0.1, 0.2), min_length=1, description="rates, one copy each")

    def recipe(self, rate: float) -> NoiseRecipe:
        """The recipe with this rate."""
        return NoiseRecipe(rate=rate, **{name: getattr(self, name) for name in NoiseShape.model_fields})

    def level_weights(self) -> dict[str, float]:
        """Level -> its weight: `clean` first, then `noise_RATE`. The sum is 1."""
        rates = self.rates if self.share else ()
        return {CLEAN: 1 - self.share if rates else 1.0} | {
            f"noise_{rate:g}": self.share / len(rates) for rate in rates
        }

    def copies(
        self, texts: Sequence[str], seed: int, probe: str, entities: Sequence[Sequence[Entity]] | None = None
    ) -> Iterator[list[NoisedText]]:
        """One list of noised texts per rate.

        Args:
            texts: the clean texts.
            seed, probe: seed of the noise.
            entities: of each text; they move with their characters.
        """
        for rate in self.rates if self.share else ():
            generator = derive(seed, "evaluation", "selection noise", probe, f"{rate:g}")
            yield TextNoiser(self.recipe(rate)).batch(texts, generator, entities)


@dataclass(frozen=True)
class HeldOut:
    """What is right in G validation documents at several levels of noise; the rows of all levels, one after the other.

    Attributes:
        task: `classify`: a row per document; `tag`: a row per character.
        level_weights: level -> its weight, with the sum 1.
        targets: (R,) int64, the number of the label or tag.
        owners: (R,) int64, number of the level · G + number of the document.
        groups: (G,) int64, numbers of the groups of the documents, such as plays.
    """

    task: Literal["classify", "tag"]
    level_weights: Mapping[str, float]
    targets: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]

    @property
    def number(self) -> int:
        """G, the number of documents."""
        return len(self.groups)

    def rows(self, scores: Floats) -> Rows:
        """Scores (P, R, K) of P parts with what is right. Each row of a level counts the same."""
        sizes = np.bincount(self.owners, minlength=len(self.level_weights) * self.number).astype(np.float64)
        by_level = sizes.reshape(len(self.level_weights), self.number)
        shares = by_level / np.maximum(by_level.sum(axis=1, keepdims=True), 1)
        weights = (shares * np.array([*self.level_weights.values()])[:, None]).ravel()
        return Rows(scores, self.targets, self.owners, np.zeros((len(weights), 0)), weights)

    def of_documents(self, selected: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which copies belong to some documents (G,), for `Rows.of_texts`."""
        return np.tile(selected, len(self.level_weights))

    def losses(self, joined: Floats) -> tuple[Floats, dict[str, Measurement]]:
        """The loss of each document (G,), whose mean is the loss of all; and per level the mean log-probability.

        Args:
            joined: log-probabilities (R, K).
        """
        rows = self.rows(joined[None])
        per_copy = losses(self.task, joined, rows)
        sizes = np.bincount(self.owners, minlength=len(per_copy)).astype(np.float64)
        shape = len(self.level_weights), self.number
        own = (per_copy * rows.weights).reshape(shape).sum(axis=0) * self.number
        totals, counts = (-per_copy * sizes).reshape(shape), sizes.reshape(shape)
        values = {level: ratio(totals[row], counts[row]) for row, level in enumerate(self.level_weights)}
        return own, values


def group_numbers(documents: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The numbers of the groups of documents, (G,). A document without a group is a group of its own."""
    names = documents["group"].where(documents["group"].notna(), "\0" + documents["id"].astype(str))
    numbers: npt.NDArray[np.int64] = np.unique(names.astype(str).to_numpy(), return_inverse=True)[1]
    return numbers.astype(np.int64)
