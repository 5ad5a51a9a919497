"""Typing noise on training windows, drawn afresh for every batch, with the edit map that moves the targets."""

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
    """A batch after noise, all (B, L): `ids` int64 (0 behind the rows), `source` int64, `tags` uint8.

    `source` says which place of the clean row each character comes from, -1 for an inserted one and for padding.
    """

    ids: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]
    tags: npt.NDArray[np.uint8]


class Noiser:
    """Applies one noise recipe to batches of windows; characters never cross from one window to another.

    Nor do they cross from one document to the next: the end mark between them is no letter, so noise leaves it alone
    and swaps nothing with it.
    """

    def __init__(self, noise: NoiseRecipe, preprocessor: Preprocessor, misspellings: Spellings | None = None) -> None:
        self.noise = noise
        self.tables = SymbolTables.for_preprocessor(preprocessor, noise.layouts, misspellings)
        check(noise, self.tables)

    def __call__(self, batch: WindowBatch, generator: np.random.Generator) -> NoisedBatch:
        """Noises a clean batch, which is not changed; a row that grows beyond the window is cut at its end."""
        if self.noise.rate == 0:
            return clean(batch)
        columns = np.arange(batch.ids.shape[1])
        inside = columns < batch.lengths[:, None]
        ids = batch.ids[inside]
        begins = np.cumsum(batch.lengths) - batch.lengths
        tags = batch.tags[inside] if batch.tags.any() else None
        # A swap across the edge of an entity would tear it in two, so edges stop swaps as window starts do.
        fences = begins if tags is None else np.union1d(begins, entity_edges(tags))
        noised = apply(self.noise, ids, self.tables, generator, starts=fences)
        bounds = np.append(move_starts(begins, noised.source), len(noised.source))
        # What lies behind the end of its row is read from one place more, which holds padding.
        kept = columns < np.diff(bounds)[:, None]
        index = np.where(kept, bounds[:-1, None] + columns, len(noised.source))
        source = np.append(noised.source, -1).astype(np.int64)[index]
        moved = np.zeros_like(batch.tags) if tags is None else np.append(move_tags(tags, noised.source), 0)[index]
        return NoisedBatch(
            np.append(noised.symbols, PAD).astype(np.int64, copy=False)[index],
            np.maximum(source - begins[:, None], -1),
            moved.astype(np.uint8, copy=False),
        )


def clean(batch: WindowBatch) -> NoisedBatch:
    """A batch as it is, as held-out evaluation sees it."""
    source = np.where(batch.ids > 0, np.arange(batch.ids.shape[1]), -1)
    return NoisedBatch(batch.ids, source, batch.tags)
