"""Typing noise on training windows, drawn afresh for every batch, with the edit map that moves the targets."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.noise.apply import apply
from cclm_core.noise.edits import entity_edges, move_starts, move_tags
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.vocabulary import PAD, Preprocessor
from cclm_core.text.windows import WindowBatch


class NoisedBatch(NamedTuple):
    """A batch after noise, all (B, L): `ids` int64 (0 behind the rows), `source` int64, `tags` uint8.

    `source` says which place of the clean row each character comes from, -1 for an inserted one and for padding.
    """

    ids: npt.NDArray[np.int64]
    source: npt.NDArray[np.int64]
    tags: npt.NDArray[np.uint8]


class Noiser:
    """Applies one noise recipe to batches of windows; characters never cross from one window to another."""

    def __init__(self, noise: TrainingNoise, preprocessor: Preprocessor) -> None:
        self.noise = noise
        self.tables = SymbolTables.for_preprocessor(preprocessor)

    def __call__(self, batch: WindowBatch, generator: np.random.Generator) -> NoisedBatch:
        """Noises a clean batch, which is not changed; a row that grows beyond the window is cut at its end."""
        if self.noise.rate == 0:
            return clean(batch)
        length = batch.ids.shape[1]
        inside = np.arange(length) < batch.lengths[:, None]
        ids, tags = batch.ids[inside], batch.tags[inside]
        begins = np.cumsum(batch.lengths) - batch.lengths
        # A swap across the edge of an entity would tear it in two, so edges stop swaps as window starts do.
        fences = np.union1d(begins, entity_edges(tags))
        noised = apply(self.noise, ids, self.tables, generator, starts=fences)
        bounds = np.append(move_starts(begins, noised.source), len(noised.source))
        sizes = np.diff(bounds)
        index = bounds[:-1, None] + np.arange(length)
        kept = np.arange(length) < sizes[:, None]
        index = index[kept]
        result = NoisedBatch(np.full_like(batch.ids, PAD), np.full(kept.shape, -1), np.zeros_like(batch.tags))
        result.ids[kept] = noised.symbols[index]
        result.tags[kept] = move_tags(tags, noised.source)[index]
        source = noised.source[index].astype(np.int64)
        result.source[kept] = np.where(source >= 0, source - np.repeat(begins, kept.sum(axis=1)), -1)
        return result


def clean(batch: WindowBatch) -> NoisedBatch:
    """A batch as it is, as held-out evaluation sees it."""
    source = np.where(batch.ids > 0, np.arange(batch.ids.shape[1]), -1)
    return NoisedBatch(batch.ids, source, batch.tags)
