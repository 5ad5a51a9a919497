"""Typing noise on training windows, sampled again for each batch, with the edit map that moves the targets."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.corpus.windows import WindowBatch
from cclm_core.noise.edits import entity_edges, move_starts, move_tags
from cclm_core.noise.engine import apply, check
from cclm_core.noise.misspellings import Spellings
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.vocabulary import PAD, Preprocessor


class NoisedBatch(NamedTuple):
    """A batch after noise, all (B, L): `ids` int64 (0 is padding), `source` int64, `tags` uint8.

    `source` is the position of each character in the clean row, -1 for inserted characters and padding.
    """

    ids: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]
    tags: npt.NDArray[np.uint8]


class Noiser:
    """Applies a noise recipe to batches of windows.

    Characters never move to another window, nor to another document: the end mark between documents is not a letter, so
    noise does not touch it.
    """

    def __init__(self, noise: NoiseRecipe, preprocessor: Preprocessor, misspellings: Spellings | None = None) -> None:
        self.noise = noise
        self.tables = SymbolTables.for_preprocessor(preprocessor, noise.layouts, misspellings)
        check(noise, self.tables)

    def __call__(self, batch: WindowBatch, generator: np.random.Generator) -> NoisedBatch:
        """A noisy copy of a clean batch. A row that grows beyond the window is truncated."""
        if self.noise.rate == 0:
            return clean(batch)
        columns = np.arange(batch.ids.shape[1])
        inside = columns < batch.lengths[:, None]
        ids = batch.ids[inside]
        row_starts = np.cumsum(batch.lengths) - batch.lengths
        tags = batch.tags[inside] if batch.tags.any() else None
        # A swap across the edge of an entity would split it, so edges block swaps like window starts.
        starts = row_starts if tags is None else np.union1d(row_starts, entity_edges(tags))
        noised = apply(self.noise, ids, self.tables, generator, starts=starts)
        bounds = np.append(move_starts(row_starts, noised.source), len(noised.source))
        # Positions after the end of a row point to an extra position with padding.
        kept = columns < np.diff(bounds)[:, None]
        index = np.where(kept, bounds[:-1, None] + columns, len(noised.source))
        source = np.append(noised.source, -1).astype(np.int64)[index]
        moved = np.zeros_like(batch.tags) if tags is None else np.append(move_tags(tags, noised.source), 0)[index]
        return NoisedBatch(
            np.append(noised.symbols, PAD).astype(np.int64, copy=False)[index],
            np.maximum(source - row_starts[:, None], -1),
            moved.astype(np.uint8, copy=False),
        )


def clean(batch: WindowBatch) -> NoisedBatch:
    """The batch without noise, for held-out evaluation."""
    source = np.where(batch.ids > 0, np.arange(batch.ids.shape[1]), -1)
    return NoisedBatch(batch.ids, source, batch.tags)
