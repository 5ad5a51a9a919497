"""Denoising: predict the correct character at each position of noisy text, and any character missing after it."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import Example, ObjectiveContext, Sums
from cclm_core.objectives.noising import NoisedBatch
from cclm_core.objectives.typing_errors import TypingErrors, error_kinds
from cclm_core.objectives.windowed import Noised, Targets
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import FIRST_CHARACTER, NUM_SPECIAL, PAD
from cclm_core.text.word_targets import FILE

NOTHING = PAD
"""The target of a superfluous character, and of a position after which no character is missing."""

UNKNOWN = -100
"""No target: after the last character of a window, and at characters outside of the alphabet."""

_PASSES = 3  # edits move right by up to this many letters; longer runs of equal letters are rare


class DenoiseConfig(Config):
    """The errors to correct, and the weight of edits."""

    objective: Literal["denoise"] = "denoise"
    noise: NoiseRecipe = Field(
        default_factory=lambda: NoiseRecipe(rate=0.05, kinds=error_kinds()),
        description="the errors to correct, in training and on held-out text; training_noise is ignored",
    )
    edit_weight: float = Field(default=2.0, gt=0, description="loss weight of a wrong character; others have weight 1")

    def build(self, context: ObjectiveContext) -> "Denoise":
        """Builds the objective with a new head."""
        return Denoise(self, context)


class EditHead(nn.Module):
    """Predicts the correct character at each position, and any character missing after it.

    The classes are NOTHING and the alphabet; see `classes`. Special ids and bytes have no class. An extra logit,
    "keep", is added to that of the input character.

    Args:
        width: features per character.
        num_ids: size of the vocabulary.

    Source: keep, delete, replace and append of GECToR (Omelianchuk et al. 2020, arXiv 2005.12592), for characters.
    """

    def __init__(self, width: int, num_ids: int) -> None:
        super().__init__()
        num_classes = num_ids - FIRST_CHARACTER + 1
        self.here = nn.Linear(width, num_classes + 1)
        self.behind = nn.Linear(width, num_classes)

    def forward(self, features: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, C) of the correct character at each position, and of the character missing after it.

        Args:
            features: (N, width).
            inputs: (N,) int64, class of each input character, UNKNOWN if it has none.
        """
        logits = self.here(features).float()
        keep = logits[:, -1] * (inputs != UNKNOWN)
        here = logits[:, :-1].scatter_add(1, inputs.clamp(min=0)[:, None], keep[:, None])
        return here, self.behind(features).float()


class Denoise(TypingErrors):
    """Cross-entropy of the correct character at each position, and of the character missing after it.

    An inserted character has the target NOTHING. If several characters in a row are missing, the target is the first:
    correction can be repeated. Swapped characters have each other as targets. If several edits give the same text, as
    in "ocur" and "occcur", the last of the equal letters is the missing or superfluous one. The last character of a
    window has no target for a missing character.
    """

    selection_metric = "bits_per_edit"

    def __init__(self, config: DenoiseConfig, context: ObjectiveContext) -> None:
        super().__init__(config.noise, context)
        self.config = config
        self.edits = EditHead(context.width, context.preprocessor.num_ids)
        self._words = context.words

    def save(self, folder: Path) -> None:
        """Writes the head and, if any, the word targets of the vocabulary, which a corrector uses to weight edits."""
        super().save(folder)
        if self._words is not None:
            self._words.save(folder / FILE)

    def after_noise(self, batch: Noised, generator: np.random.Generator) -> Targets:  # noqa: ARG002
        """Targets: `positions` (T,) of all characters, and classes (T,): `inputs`, correct `ids`, `missing` after."""
        noised = batch.noised
        here, after = target_edits(batch.clean.ids, noised)
        positions = np.flatnonzero(noised.ids.reshape(-1) >= NUM_SPECIAL)
        targets = {"positions": positions}
        for name, ids in (("inputs", noised.ids), ("ids", here), ("missing", after)):
            targets[name] = classes(ids.reshape(-1)[positions])
        return Targets(targets)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Weighted cross-entropy of both predictions. Metrics: unweighted bits, recall and precision of edits."""
        inputs = example.targets["inputs"]
        here, after = self.edits(features.flatten(0, 1)[example.targets["positions"]], inputs)
        total, weight, unweighted = features.new_zeros((), dtype=torch.float32), 0.0, 0.0
        expected, proposed, correct = 0, 0, 0
        for logits, targets, unchanged in (
            (here, example.targets["ids"], inputs),
            (after, example.targets["missing"], torch.zeros_like(inputs)),
        ):
            losses = nn.functional.cross_entropy(logits, targets, reduction="none", ignore_index=UNKNOWN)
            known = targets != UNKNOWN
            weights = torch.where(targets != unchanged, self.config.edit_weight, 1.0) * known
            total = total + (losses * weights).sum()
            weight += float(weights.sum())
            with torch.no_grad():
                unweighted += float(losses.sum())
                best = logits.argmax(-1)
                expected += int((known & (targets != unchanged)).sum())
                proposed += int((known & (best != unchanged)).sum())
                correct += int((known & (best != unchanged) & (best == targets)).sum())
        return total / max(1.0, weight), {
            self.selection_metric: Sums(unweighted / math.log(2), len(inputs)),
            "edits_found": Sums(correct, expected),
            "edits_right": Sums(correct, proposed),
        }


def classes(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The `EditHead` classes of ids of any shape: 0 for NOTHING, then the alphabet; UNKNOWN for all other ids."""
    return np.where(ids >= FIRST_CHARACTER, ids - FIRST_CHARACTER + 1, np.where(ids == NOTHING, 0, UNKNOWN))


def target_edits(
    clean: npt.NDArray[np.int64], noised: NoisedBatch
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The correct id (B, L) at each position of noisy windows, and the id (B, L) missing after it.

    Args:
        clean: (B, L), ids before noise.
        noised: the same windows after noise.
    """
    rows, length = noised.ids.shape
    if not length:
        return noised.ids, noised.ids
    # Sorting by source swaps swapped neighbors back.
    has_source = noised.source >= 0
    order = np.where(has_source, noised.source, length)
    order.sort(axis=1)
    source = np.full_like(noised.source, -1)
    source[has_source] = order[order < length]
    source = _moved_right(clean, noised.ids, source)
    has_source = source >= 0
    row = np.arange(rows)[:, None]
    here = np.where(has_source, clean[row, np.maximum(source, 0)], NOTHING)
    # A gap before the next source means that characters are missing.
    sources = np.full((rows, length + 1), length, dtype=np.int64)
    sources[:, :-1] = np.where(has_source, source, length)
    next_source = np.minimum.accumulate(sources[:, ::-1], axis=1)[:, ::-1][:, 1:]
    missing = has_source & (next_source > source + 1) & (next_source < length)
    after = np.where(missing, clean[row, np.minimum(source + 1, length - 1)], NOTHING)
    after = np.where(has_source & (next_source == length), UNKNOWN, after)
    return here, after


def _moved_right(
    clean: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], source: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Moves each edit right while the text stays the same; `source` (B, L) is ascending, -1 for insertions.

    The text does not show which of two equal letters was edited. Without this convention the model would have to divide
    its probability between them.
    """
    source, row = source.copy(), np.arange(len(ids))[:, None]
    for _ in range(_PASSES):
        # If the first of two equal letters was inserted, move the insertion to the second.
        swapped = (source[:, :-1] < 0) & (source[:, 1:] >= 0) & (ids[:, :-1] == ids[:, 1:])
        first, second = source[:, :-1], source[:, 1:]
        first[swapped], second[swapped] = second[swapped], -1
        # If a letter equals the first letter missing before it, match it with that letter, so that the gap moves right.
        latest = np.maximum.accumulate(source, axis=1)
        expected = np.concatenate([np.zeros_like(source[:, :1]), latest[:, :-1] + 1], axis=1)
        column = np.minimum(expected, clean.shape[1] - 1)
        is_equal = (source > expected) & (clean[row, column] == ids)
        source[is_equal] = expected[is_equal]
    return source
