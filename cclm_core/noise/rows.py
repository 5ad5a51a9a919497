"""Noise on a batch of windows, as training draws it: one call for all rows."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.noise.edits import Indices, Source, entity_edges, move_starts, move_tags
from cclm_core.noise.recipe import NoiseRecipe, apply
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.vocabulary import PAD


class NoisedRows(NamedTuple):
    """A batch after noise, in the shape that it had.

    Attributes:
        ids: (B, L) with PAD behind shorter rows. A row that grew beyond L is cut there.
        source: (B, L) int32, the column of the same row for which each id stands; -1 for inserted ids and padding.
        tags: (B, L) uint8, the BIO tags moved with their ids; all 0 where none were given.
        lengths: (B,) int64, ids of each row.
    """

    ids: npt.NDArray[Any]
    source: Source
    tags: npt.NDArray[np.uint8]
    lengths: Indices


def noise_rows(
    recipe: NoiseRecipe,
    ids: npt.NDArray[Any],
    lengths: Indices,
    tables: SymbolTables,
    generator: np.random.Generator,
    tags: npt.NDArray[np.uint8] | None = None,
) -> NoisedRows:
    """Noises the rows of a padded batch; nothing moves from row to row, and no swap crosses an entity's edge.

    Args:
        recipe: what to do.
        ids: (B, L) integers, PAD behind `lengths`; not changed.
        lengths: (B,) int64, ids of each row, 0 to L.
        tables: what each id may become.
        generator: where all randomness comes from.
        tags: (B, L) BIO tags of the ids.
    """
    width = ids.shape[1]
    inside = np.arange(width) < lengths[:, None]
    flat = ids[inside]
    flat_tags = np.zeros(len(flat), dtype=np.uint8) if tags is None else tags[inside]
    starts = np.cumsum(lengths) - lengths
    borders = starts if tags is None else np.union1d(starts, entity_edges(flat_tags))
    noised = apply(recipe, flat, tables, generator, starts=borders)
    moved = np.append(move_starts(starts, noised.source), len(noised.symbols))
    new_lengths = np.minimum(np.diff(moved), width)
    filled = np.arange(width) < new_lengths[:, None]
    taken = (moved[:-1, None] + np.arange(width))[filled]

    new_ids = np.full(ids.shape, PAD, dtype=ids.dtype)
    new_ids[filled] = noised.symbols[taken]
    new_tags = np.zeros(ids.shape, dtype=np.uint8)
    if tags is not None:
        new_tags[filled] = move_tags(flat_tags, noised.source)[taken]
    source = np.full(ids.shape, -1, dtype=np.int32)
    source[filled] = noised.source[taken]
    source -= np.where(source >= 0, starts[:, None], 0).astype(np.int32)
    return NoisedRows(new_ids, source, new_tags, new_lengths)
