"""Next characters: at every position, predict the characters that follow. For causal encoders."""

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import END, FIRST_BYTE, NUM_SPECIAL

_NONE = -100  # ignored by cross-entropy
_CONTINUATION = (FIRST_BYTE + 0x80, FIRST_BYTE + 0xC0)
"""Ids of UTF-8 continuation bytes: from the first to before the second."""


class NextCharactersConfig(Config):
    """How far ahead to predict."""

    objective: Literal["next_characters"] = "next_characters"
    num_ahead: int = Field(default=1, ge=1, le=16, description="characters that are predicted at every position")

    def build(self, context: ObjectiveContext) -> "NextCharacters":
        """The objective with a new head."""
        return NextCharacters(self, context)


class NextCharacters(Objective):
    """Cross-entropy of the next `num_ahead` characters, each from the same features by a softmax of its own.

    The mark that ends a document is a target. At that mark the first character of the next document is a target too:
    it models how texts begin, and it makes the bits of all targets a code length of all documents. Positions after the
    window are no targets. In training the input carries typing noise and the targets are clean: the characters after
    the furthest clean character read so far, so that swapped characters reveal no target.

    The selection metric counts characters and end marks. A rare character that is read as several bytes costs the sum
    of their bits.

    Source: several characters ahead, Gloeckle et al. 2024 (arXiv 2404.19737), with linear heads.
    """

    selection_metric = "bits_per_character"
    needs_causal = True

    def __init__(self, config: NextCharactersConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config, self.num_ids = config, context.preprocessor.num_ids
        self.head = nn.Linear(context.width, config.num_ahead * self.num_ids)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        """Targets: `places` (T,), and the `ids` (T, num_ahead) of the characters after them."""
        noised = self.noised(batch, generator, training)
        reached = np.maximum.accumulate(noised.source, axis=1)
        # One column in front for positions before the first clean character, others at the end for missing targets.
        clean = np.pad(batch.ids, ((0, 0), (1, self.config.num_ahead)))
        follows, wanted = noised.ids > 0, []
        for ahead in range(1, self.config.num_ahead + 1):
            ids = np.take_along_axis(clean, reached + 1 + ahead, axis=1)
            follows &= (ids >= NUM_SPECIAL) | (ids == END)
            wanted.append(np.where(follows, ids, _NONE).reshape(-1))
            follows &= ids != END
        places = np.flatnonzero(wanted[0] != _NONE)
        targets = {"places": places, "ids": np.stack(wanted, axis=1)[places]}
        return Example(torch.from_numpy(noised.ids), {name: torch.from_numpy(part) for name, part in targets.items()})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean cross-entropy of all targets; one metric per distance."""
        chosen, wanted = features.flatten(0, 1)[example.targets["places"]], example.targets["ids"]
        scores = self.head(chosen).float().view(-1, self.num_ids)
        losses = nn.functional.cross_entropy(scores, wanted.flatten(), reduction="none").view(wanted.shape)
        begins = (wanted != _NONE) & ((wanted < _CONTINUATION[0]) | (wanted >= _CONTINUATION[1]))
        bits = (losses.detach().sum(0) / math.log(2)).tolist()
        metrics = {
            self.selection_metric if ahead == 1 else f"{self.selection_metric}_{ahead}_ahead": Sums(total, number)
            for ahead, (total, number) in enumerate(zip(bits, begins.sum(0).tolist(), strict=True), start=1)
        }
        return losses.sum() / (wanted != _NONE).sum().clamp(min=1), metrics
