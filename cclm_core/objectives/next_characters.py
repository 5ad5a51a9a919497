"""Next characters: at every position, predict what comes next. For encoders that see nothing of it."""

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Example, Objective, Sums, Surroundings
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import END, FIRST_BYTE, NUM_SPECIAL

_NONE = -100  # what cross-entropy passes over
_CONTINUATION = (FIRST_BYTE + 0x80, FIRST_BYTE + 0xC0)
"""Ids of the bytes that go on with a character: from the first to before the second."""


class NextCharactersConfig(Config):
    """How far ahead is predicted."""

    objective: Literal["next_characters"] = "next_characters"
    num_ahead: int = Field(default=1, ge=1, le=16, description="characters that are predicted at every position")


class NextCharacters(Objective):
    """Cross-entropy of the next `num_ahead` characters, each from the same features by a softmax of its own.

    The mark that ends a document is a target; behind it, the first character of the next one is, at the mark alone:
    that is how texts begin, and with it the bits of all targets are a code length of all documents. Nothing behind
    the window is a target. In training the input carries typing noise and the targets are clean: what follows the
    furthest clean character read so far, so that characters that changed places give nothing away.

    The headline counts characters and end marks: a rare character that is read as several bytes costs the sum of
    their bits.

    Source: several characters ahead, Gloeckle et al. 2024 (arXiv 2404.19737), with linear heads.
    """

    headline = "bits_per_character"
    needs_causal = True

    def __init__(self, config: NextCharactersConfig, noise: TrainingNoise, surroundings: Surroundings) -> None:
        super().__init__(noise, surroundings)
        self.config, self.num_ids = config, surroundings.preprocessor.num_ids
        self.head = nn.Linear(surroundings.width, config.num_ahead * self.num_ids)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        noised = self.noised(batch, generator, training)
        reached = np.maximum.accumulate(noised.source, axis=1)
        # A place more in front, for positions that have reached nothing yet, and places behind for what is not there.
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
        chosen, wanted = features.flatten(0, 1)[example.targets["places"]], example.targets["ids"]
        scores = self.head(chosen).float().view(-1, self.num_ids)
        losses = nn.functional.cross_entropy(scores, wanted.flatten(), reduction="none").view(wanted.shape)
        begins = (wanted != _NONE) & ((wanted < _CONTINUATION[0]) | (wanted >= _CONTINUATION[1]))
        bits = (losses.detach().sum(0) / math.log(2)).tolist()
        metrics = {
            self.headline if ahead == 1 else f"{self.headline}_{ahead}_ahead": Sums(total, number)
            for ahead, (total, number) in enumerate(zip(bits, begins.sum(0).tolist(), strict=True), start=1)
        }
        return losses.sum() / (wanted != _NONE).sum().clamp(min=1), metrics
