"""Denoising: for every character of misspelled text, the right character, and the one missing after it."""

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
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.objectives.noising import NoisedBatch, Noiser
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import FIRST_CHARACTER, NUM_SPECIAL, PAD
from cclm_core.text.word_targets import FILE

NOTHING = PAD
"""The target for a character to delete, and for a position after which no character is missing."""

UNKNOWN = -100
"""No target: after the last character of a window, and for characters outside the alphabet."""

_PASSES = 3  # an edit may move right by this many letters; longer runs of equal letters are rare


def _kinds() -> dict[str, float]:
    return dict.fromkeys((*TYPING, "missing_space", "extra_space", "phonetic"), 1.0)


class DenoiseConfig(Config):
    """The errors to correct, and how edits are weighted."""

    objective: Literal["denoise"] = "denoise"
    noise: NoiseRecipe = Field(
        default_factory=lambda: NoiseRecipe(rate=0.05, kinds=_kinds()),
        description="the errors to correct, in training and on held-out text; training_noise is not used",
    )
    edit_weight: float = Field(default=2.0, gt=0, description="weight of a wrong character; a right one has weight 1")

    def build(self, context: ObjectiveContext) -> "Denoise":
        """The objective with a new head."""
        return Denoise(self, context)


class EditHead(nn.Module):
    """Predicts for every character the right one, and the one missing after it, if any.

    The classes are NOTHING and the alphabet; see `classes`. Marks and bytes are never inserted and have no class. An
    extra score, "keep", is added to the class of the character itself.

    Args:
        width: features per character.
        num_ids: size of the vocabulary.

    Source: keep, delete, replace and append as in GECToR (Omelianchuk et al. 2020, arXiv 2005.12592), for characters.
    """

    def __init__(self, width: int, num_ids: int) -> None:
        super().__init__()
        num_classes = num_ids - FIRST_CHARACTER + 1
        self.here = nn.Linear(width, num_classes + 1)
        self.behind = nn.Linear(width, num_classes)

    def forward(self, features: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, C) of the right character at each position, and of the one missing after it.

        Args:
            features: (N, width).
            seen: (N,) int64, class of each input character, UNKNOWN if it has none.
        """
        scores = self.here(features).float()
        stays = scores[:, -1] * (seen != UNKNOWN)
        return scores[:, :-1].scatter_add(1, seen.clamp(min=0)[:, None], stays[:, None]), self.behind(features).float()


class Denoise(Objective):
    """Cross-entropy of an edit for every visible character: the right character, and the one missing after it.

    The target of an inserted character is NOTHING. Of several missing characters in a row the target is the first,
    since correction can be repeated. The targets of swapped characters are the same two in the right order. Where
    several edits give the same text, as in "ocur" and "occcur", the last of the equal letters is the missing or the
    superfluous one. The last character of a window has no target for a missing one.
    """

    selection_metric = "bits_per_edit"

    def __init__(self, config: DenoiseConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config
        self._errors = Noiser(config.noise, context.preprocessor, context.misspellings)
        self.edits = EditHead(context.width, context.preprocessor.num_ids)
        self._words = context.words

    def save(self, folder: Path) -> None:
        """Writes the head, and the word targets of the vocabulary, if any, by which a corrector weights edits."""
        super().save(folder)
        if self._words is not None:
            self._words.save(folder / FILE)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:  # noqa: ARG002
        """Targets: `places` (T,) of all characters, and their classes: `seen`, right `ids`, `missing` after."""
        noised = self._errors(batch, generator)
        here, behind = wanted_edits(batch.ids, noised)
        places = np.flatnonzero(noised.ids.reshape(-1) >= NUM_SPECIAL)
        targets = {"places": torch.from_numpy(places)}
        for name, ids in (("seen", noised.ids), ("ids", here), ("missing", behind)):
            targets[name] = torch.from_numpy(classes(ids.reshape(-1)[places]))
        return Example(torch.from_numpy(noised.ids), targets)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Weighted cross-entropy of both edits; the metrics are unweighted bits, and recall and precision of edits."""
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
            self.selection_metric: Sums(plain / math.log(2), len(seen)),
            "edits_found": Sums(right, wanted),
            "edits_right": Sums(right, proposed),
        }


def classes(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For ids of any shape their classes in an `EditHead`: 0 for NOTHING, then the alphabet; UNKNOWN for all others."""
    return np.where(ids >= FIRST_CHARACTER, ids - FIRST_CHARACTER + 1, np.where(ids == NOTHING, 0, UNKNOWN))


def wanted_edits(
    clean: npt.NDArray[np.int64], noised: NoisedBatch
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each position of noised windows (B, L) the right id, and the id missing after it.

    Args:
        clean: (B, L) the ids before noise.
        noised: the same windows after it.
    """
    rows, length = noised.ids.shape
    if not length:
        return noised.ids, noised.ids
    # Positions that have a source, sorted by it: swapped neighbors are swapped back.
    stands = noised.source >= 0
    order = np.where(stands, noised.source, length)
    order.sort(axis=1)
    source = np.full_like(noised.source, -1)
    source[stands] = order[order < length]
    source = _moved_on(clean, noised.ids, source)
    stands = source >= 0
    row = np.arange(rows)[:, None]
    here = np.where(stands, clean[row, np.maximum(source, 0)], NOTHING)
    # The next position with a source shows what is missing in between.
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
    """The rising `source` (B, L), -1 for insertions, with each edit moved right as far as the text stays the same.

    Which of two equal letters noise touched cannot be seen; without a convention the probability would be split.
    """
    source, row = source.copy(), np.arange(len(ids))[:, None]
    for _ in range(_PASSES):
        # Of two equal letters the first was inserted: move the insertion to the second.
        swapped = (source[:, :-1] < 0) & (source[:, 1:] >= 0) & (ids[:, :-1] == ids[:, 1:])
        first, second = source[:, :-1], source[:, 1:]
        first[swapped], second[swapped] = second[swapped], -1
        # A letter equals the first one missing before it: match it with that one, so that the gap moves right.
        reached = np.maximum.accumulate(source, axis=1)
        expected = np.concatenate([np.zeros_like(source[:, :1]), reached[:, :-1] + 1], axis=1)
        at = np.minimum(expected, clean.shape[1] - 1)
        earlier = (source > expected) & (clean[row, at] == ids)
        source[earlier] = expected[earlier]
    return source
