"""Whole texts: two spans of one document are near each other and far from those of other documents."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from cclm_core.corpus.windows import WindowBatch
from cclm_core.encoders.pooling import PoolingKind
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.objectives.contrastive import Projection, contrast
from cclm_core.objectives.noising import Noiser
from cclm_core.objectives.spans import DocumentParts, Positions, Span, document_parts, rows_of
from cclm_core.objectives.typing_errors import error_kinds
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import PAD
from cclm_core.text.words import letters


class WholeTextsConfig(Config):
    """Which pairs of texts belong together, and how they are compared."""

    objective: Literal["whole_texts"] = "whole_texts"
    pairs: Literal["spans", "copies"] = Field(
        default="spans",
        description="spans: two adjacent halves of the part of a document in a window; copies: the part and its copy",
    )
    min_characters: int = Field(default=16, ge=1, description="minimum number of ids of each text of a pair")
    noise: NoiseRecipe = Field(
        default_factory=lambda: NoiseRecipe(rate=0.1, kinds=error_kinds()),
        description="typing errors on one side of each pair, in training and on held-out text; training_noise is "
        "ignored",
    )
    pooling: PoolingKind = Field(default="mean_max", description="how to pool the characters of a text")
    size: int = Field(default=128, ge=2, description="numbers per text that are compared")
    temperature: float = Field(default=0.07, gt=0, description="similarities are divided by it")

    def build(self, context: ObjectiveContext) -> "WholeTexts":
        """Builds the objective with a new head."""
        return WholeTexts(self, context)


class WholeTexts(Objective):
    """Contrastive loss of pairs of texts from the same document against all others of the batch. Needs no labels.

    A window can hold several documents, or a part of one. With `pairs: spans`, the part of a document in a window is
    cut in two at the word nearest to its middle: two spans that do not overlap. One of the two, chosen at random, gets
    typing errors. A batch of B windows has at most B pairs, chosen at random, so it costs about as much as other
    objectives, or twice as much with `pairs: copies`. Larger batches have more negatives and longer windows more text:
    compare metrics only between trainings with equal `batch_size`, `window` and `min_characters`.

    Held-out metrics: `bits_per_pair`, to compare with `bits_of_chance`, and `pair_accuracy`, the share of texts whose
    nearest text is their partner. A batch with a single pair is not counted.

    Source: SimCSE (Gao et al. 2021, arXiv 2104.08821), DeCLUTR (Giorgi et al. 2021, arXiv 2006.03659) for spans.
    """

    selection_metric = "bits_per_pair"

    def __init__(self, config: WholeTextsConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config
        self._errors = Noiser(config.noise, context.preprocessor, context.misspellings)
        self._letters = letters(context.preprocessor)
        self.head = Projection(config.pooling, context.width, config.size)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:  # noqa: ARG002
        """Ids (2 N, L): the first text of each pair, then the second. No targets: text k and text N + k are a pair."""
        parts = document_parts(batch.ids)
        copies = self.config.pairs == "copies"
        sizes = parts.stops - parts.starts
        long_enough = np.flatnonzero(sizes >= self.config.min_characters * (1 if copies else 2))
        selected = np.sort(generator.permutation(long_enough)[: batch.num_rows])
        spans = [span for part in selected.tolist() for span in self._pair(batch.ids, parts, part)]
        if len(spans) < 4:  # nothing to compare a single pair with
            spans = []
        first, second = (rows_of(batch.ids, spans[side::2]) for side in (0, 1))
        swapped = generator.random(len(first.ids)) < 0.5
        first, second = _swapped(first, second, swapped), _swapped(second, first, swapped)
        noised = self._errors(second, generator).ids
        return Example(torch.from_numpy(np.concatenate([first.ids, noised])), {})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean contrastive loss of the pairs."""
        first, second = self.head(features, example.ids != PAD).chunk(2)
        number = len(first)
        losses, num_correct = contrast(first, second, self.config.temperature)
        return losses.sum() / max(1, number), {
            self.selection_metric: Sums(losses.detach().sum().item() / math.log(2), number),
            "bits_of_chance": Sums(number * math.log2(max(1, number)), number),
            "pair_accuracy": Sums(num_correct, 2 * number),
        }

    def _pair(self, ids: Positions, parts: DocumentParts, part: int) -> list[Span]:
        """The two texts of a pair, neither longer than half a window if the part is cut."""
        row, start, stop = (int(values[part]) for values in parts)
        if self.config.pairs == "copies":
            return [Span(row, start, stop)] * 2
        inside = self._letters[ids[row, start:stop]]
        cuts = start + 1 + np.flatnonzero(~(inside[1:] & inside[:-1]))
        low, high = start + self.config.min_characters, stop - self.config.min_characters
        cuts = cuts[(cuts >= low) & (cuts <= high)]
        middle = (start + stop) // 2
        cut = int(cuts[np.abs(cuts - middle).argmin()]) if len(cuts) else middle
        half = max(1, ids.shape[1] // 2)
        return [Span(row, max(start, cut - half), cut), Span(row, cut, min(stop, cut + half))]


def _swapped(batch: WindowBatch, other: WindowBatch, swapped: npt.NDArray[np.bool_]) -> WindowBatch:
    """The rows of `batch`, and where `swapped` (N,) those of `other`, padded to the same width."""
    width = max(batch.ids.shape[1], other.ids.shape[1])
    ids, other_ids = (np.pad(part.ids, ((0, 0), (0, width - part.ids.shape[1]))) for part in (batch, other))
    lengths = np.where(swapped, other.lengths, batch.lengths)
    rows = np.where(swapped[:, None], other_ids, ids)
    return WindowBatch(rows, np.zeros(rows.shape, dtype=np.uint8), lengths)
