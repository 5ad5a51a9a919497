"""Denoising: for every character of misspelt text, what should stand there, and what is missing behind it."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.config import Config
from cclm_core.noise.catalogue import TYPING
from cclm_core.noise.recipe import NoiseRecipe, TrainingNoise
from cclm_core.objectives.base import Example, Objective, Sums, Surroundings
from cclm_core.objectives.noising import NoisedBatch, Noiser
from cclm_core.text.vocabulary import NUM_SPECIAL, PAD
from cclm_core.text.windows import WindowBatch

NOTHING = PAD
"""The class of a character that should not be there, and of a place behind which nothing is missing."""


def _kinds() -> dict[str, float]:
    return dict.fromkeys((*TYPING, "missing_space", "extra_space", "phonetic"), 1.0)


class DenoiseConfig(Config):
    """How much is misspelt, and how edits are weighed."""

    objective: Literal["denoise"] = "denoise"
    noise: NoiseRecipe = Field(
        default_factory=lambda: NoiseRecipe(rate=0.05, kinds=_kinds()),
        description="the errors to correct, in training and on held-out text; noise.training is not used",
    )
    edit_weight: float = Field(
        default=2.0, gt=0, description="weight of a place that is wrong against one that is right"
    )


class Denoise(Objective):
    """Cross-entropy of an edit for every visible character: what should stand there, and what is missing behind it.

    A character that noise inserted should become nothing; of several missing characters in a row the first is wanted,
    since correcting can be repeated. Two characters that changed places are wanted in their right order. The end of a
    window says nothing of what is missing behind it.

    Source: character edits as in GECToR (Omelianchuk et al. 2020, arXiv 2005.12592), from words to characters.
    """

    headline = "bits_per_edit"

    def __init__(self, config: DenoiseConfig, noise: TrainingNoise, surroundings: Surroundings) -> None:
        super().__init__(noise, surroundings)
        self.config = config
        self._errors = Noiser(config.noise, surroundings.preprocessor, surroundings.misspellings)
        num_ids = surroundings.preprocessor.num_ids
        self.here = nn.Linear(surroundings.width, num_ids)
        self.behind = nn.Linear(surroundings.width, num_ids)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:  # noqa: ARG002
        noised = self._errors(batch, generator)
        here, behind = wanted_edits(batch.ids, noised)
        places = np.flatnonzero(noised.ids.reshape(-1) >= NUM_SPECIAL)
        targets = {
            "places": torch.from_numpy(places),
            "ids": torch.from_numpy(here.reshape(-1)[places]),
            "missing": torch.from_numpy(behind.reshape(-1)[places]),
        }
        return Example(torch.from_numpy(noised.ids), targets)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        chosen = features.flatten(0, 1)[example.targets["places"]]
        seen = example.ids.flatten()[example.targets["places"]]
        total, weight, plain = chosen.new_zeros((), dtype=torch.float32), 0.0, 0.0
        found = 0
        for head, wanted, usual in (
            (self.here, example.targets["ids"], seen),
            (self.behind, example.targets["missing"], torch.full_like(seen, NOTHING)),
        ):
            scores = head(chosen).float()
            losses = nn.functional.cross_entropy(scores, wanted, reduction="none", ignore_index=UNKNOWN)
            known = wanted != UNKNOWN
            weights = torch.where(wanted != usual, self.config.edit_weight, 1.0) * known
            total = total + (losses * weights).sum()
            weight += float(weights.sum())
            with torch.no_grad():
                plain += float(losses.sum())
                edits = known & (wanted != usual)
                found += int((scores.argmax(-1)[edits] == wanted[edits]).sum())
        edited = int((example.targets["ids"] != seen).sum()) + int((example.targets["missing"] > NOTHING).sum())
        number = len(example.targets["places"])
        return total / max(1.0, weight), {
            self.headline: Sums(plain / math.log(2), number),
            "edits_found": Sums(found, edited),
        }


UNKNOWN = -100
"""Behind the last character of a window: what is missing there is not asked."""


def wanted_edits(
    clean: npt.NDArray[np.int64], noised: NoisedBatch
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each place of noised windows (B, L) the id that should stand there, and the id missing behind it.

    Args:
        clean: (B, L) the ids before noise.
        noised: the same windows after it.
    """
    rows, length = noised.ids.shape
    # Places that stand for a character, in the order of the clean text: neighbours that changed places change back.
    stands = noised.source >= 0
    order = np.where(stands, noised.source, length)
    order.sort(axis=1)
    source = np.full_like(noised.source, -1)
    source[stands] = order[order < length]
    row = np.arange(rows)[:, None]
    here = np.where(stands, clean[row, np.maximum(source, 0)], NOTHING)
    # The next place that stands for a character says what is missing in between.
    following = np.full((rows, length + 1), length, dtype=np.int64)
    following[:, :-1] = np.where(stands, source, length)
    upcoming = np.minimum.accumulate(following[:, ::-1], axis=1)[:, ::-1][:, 1:]
    next_source = np.minimum(source + 1, length - 1) if length else source
    missing = stands & (upcoming > source + 1) & (upcoming < length)
    behind = np.where(missing, clean[row, np.maximum(next_source, 0)], NOTHING)
    behind = np.where(stands & (upcoming == length), UNKNOWN, behind)
    return here, behind
