"""Denoising: for every character of misspelt text, what should stand there, and what is missing behind it."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.noise.kinds import TYPING
from cclm_core.noise.recipe import NoiseRecipe, TrainingNoise
from cclm_core.objectives.base import Example, Objective, Sums, Surroundings
from cclm_core.objectives.noising import NoisedBatch, Noiser
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import FIRST_CHARACTER, NUM_SPECIAL, PAD
from cclm_core.text.word_targets import FILE

NOTHING = PAD
"""What should stand where a character is too many, and what is missing where nothing is."""

UNKNOWN = -100
"""What is not asked: what is missing behind the last character of a window, and of what is not in the alphabet."""

_PASSES = 3  # so many times an edit may move on by a letter; runs of more equal letters are rare


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


class EditHead(nn.Module):
    """Reads off the features of characters what should stand there, and what is missing behind.

    The classes are NOTHING and the alphabet; see `classes`. Marks and bytes have none, since none is ever put. A score
    of its own says that a character stays, whichever it is.

    Args:
        width: features per character.
        num_ids: size of the vocabulary.

    Source: keep, delete, replace and append as in GECToR (Omelianchuk et al. 2020, arXiv 2005.12592), of words there.
    """

    def __init__(self, width: int, num_ids: int) -> None:
        super().__init__()
        num_classes = num_ids - FIRST_CHARACTER + 1
        self.here = nn.Linear(width, num_classes + 1)
        self.behind = nn.Linear(width, num_classes)

    def forward(self, features: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, C) of what should stand at each character, and of what is missing behind it.

        Args:
            features: (N, width).
            seen: (N,) int64, the class of each character, UNKNOWN if it has none.
        """
        scores = self.here(features).float()
        stays = scores[:, -1] * (seen != UNKNOWN)
        return scores[:, :-1].scatter_add(1, seen.clamp(min=0)[:, None], stays[:, None]), self.behind(features).float()


class Denoise(Objective):
    """Cross-entropy of an edit for every visible character: what should stand there, and what is missing behind it.

    A character that noise inserted should become nothing; of several missing characters in a row the first is wanted,
    since correcting can be repeated. Two characters that changed places are wanted in their right order. Where several
    edits make the same text, as in "ocur" and "occcur", the last of the equal letters is the one that is missing or
    too many. The end of a window says nothing of what is missing behind it.
    """

    headline = "bits_per_edit"

    def __init__(self, config: DenoiseConfig, noise: TrainingNoise, surroundings: Surroundings) -> None:
        super().__init__(noise, surroundings)
        self.config = config
        self._errors = Noiser(config.noise, surroundings.preprocessor, surroundings.misspellings)
        self.edits = EditHead(surroundings.width, surroundings.preprocessor.num_ids)
        self._words = surroundings.words

    def save(self, folder: Path) -> None:
        """Writes the head, and the word targets of the vocabulary, if any: a corrector weighs edits by them."""
        super().save(folder)
        if self._words is not None:
            self._words.save(folder / FILE)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:  # noqa: ARG002
        noised = self._errors(batch, generator)
        here, behind = wanted_edits(batch.ids, noised)
        places = np.flatnonzero(noised.ids.reshape(-1) >= NUM_SPECIAL)
        targets = {"places": torch.from_numpy(places)}
        for name, ids in (("seen", noised.ids), ("ids", here), ("missing", behind)):
            targets[name] = torch.from_numpy(classes(ids.reshape(-1)[places]))
        return Example(torch.from_numpy(noised.ids), targets)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        seen = example.targets["seen"]
        scores = self.edits(features.flatten(0, 1)[example.targets["places"]], seen)
        total, weight, plain = features.new_zeros((), dtype=torch.float32), 0.0, 0.0
        wanted, proposed, right = 0, 0, 0
        for logits, targets, usual in (
            (scores[0], example.targets["ids"], seen),
            (scores[1], example.targets["missing"], torch.zeros_like(seen)),
        ):
            losses = nn.functional.cross_entropy(logits, targets, reduction="none", ignore_index=UNKNOWN)
            known = targets != UNKNOWN
            weights = torch.where(targets != usual, self.config.edit_weight, 1.0) * known
            total = total + (losses * weights).sum()
            weight += float(weights.sum())
            with torch.no_grad():
                plain += float(losses.sum())
                best = logits.argmax(-1)
                wanted += int((known & (targets != usual)).sum())
                proposed += int((known & (best != usual)).sum())
                right += int((known & (best != usual) & (best == targets)).sum())
        return total / max(1.0, weight), {
            self.headline: Sums(plain / math.log(2), len(seen)),
            "edits_found": Sums(right, wanted),
            "edits_right": Sums(right, proposed),
        }


def classes(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For ids of any shape their classes in an `EditHead`: 0 for NOTHING, then the alphabet; UNKNOWN for all others."""
    return np.where(ids >= FIRST_CHARACTER, ids - FIRST_CHARACTER + 1, np.where(ids == NOTHING, 0, UNKNOWN))


def wanted_edits(
    clean: npt.NDArray[np.int64], noised: NoisedBatch
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each place of noised windows (B, L) the id that should stand there, and the id missing behind it.

    Args:
        clean: (B, L) the ids before noise.
        noised: the same windows after it.
    """
    rows, length = noised.ids.shape
    if not length:
        return noised.ids, noised.ids
    # Places that stand for a character, in the order of the clean text: neighbours that changed places change back.
    stands = noised.source >= 0
    order = np.where(stands, noised.source, length)
    order.sort(axis=1)
    source = np.full_like(noised.source, -1)
    source[stands] = order[order < length]
    source = _moved_on(clean, noised.ids, source)
    stands = source >= 0
    row = np.arange(rows)[:, None]
    here = np.where(stands, clean[row, np.maximum(source, 0)], NOTHING)
    # The next place that stands for a character says what is missing in between.
    following = np.full((rows, length + 1), length, dtype=np.int64)
    following[:, :-1] = np.where(stands, source, length)
    upcoming = np.minimum.accumulate(following[:, ::-1], axis=1)[:, ::-1][:, 1:]
    missing = stands & (upcoming > source + 1) & (upcoming < length)
    behind = np.where(missing, clean[row, np.minimum(source + 1, length - 1)], NOTHING)
    behind = np.where(stands & (upcoming == length), UNKNOWN, behind)
    return here, behind


def _moved_on(
    clean: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], source: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The rising `source` (B, L), -1 for what was inserted, with each edit as far behind as the same text allows.

    The model cannot see which of two equal letters noise touched: it would be half as sure of each.
    """
    source, row = source.copy(), np.arange(len(ids))[:, None]
    for _ in range(_PASSES):
        # Of two equal letters the first was inserted: the second was.
        swapped = (source[:, :-1] < 0) & (source[:, 1:] >= 0) & (ids[:, :-1] == ids[:, 1:])
        first, second = source[:, :-1], source[:, 1:]
        first[swapped], second[swapped] = second[swapped], -1
        # A letter equal to the first that is missing before it stands for that one: what is missing comes behind.
        reached = np.maximum.accumulate(source, axis=1)
        expected = np.concatenate([np.zeros_like(source[:, :1]), reached[:, :-1] + 1], axis=1)
        at = np.minimum(expected, clean.shape[1] - 1)
        earlier = (source > expected) & (clean[row, at] == ids)
        source[earlier] = expected[earlier]
    return source
