"""The edit map: where each symbol of a noised text came from, and how labels and windows move with the symbols.

`source[p]` is the index of the input symbol to which output symbol p corresponds, or -1 where it was inserted; after
a swap the two sources are exchanged. An inserted symbol always follows the symbol with which it was typed.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.corpus.records import Entity

Symbols = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Source = npt.NDArray[np.int32]

INSERTED = -1


class Emission(NamedTuple):
    """What E edits replace and what they put in place.

    Attributes:
        consumes: how many input symbols each replaces: one number for all, or (E,).
        lengths: how many symbols each puts in place: one number, or (E,), at most W.
        symbols: W arrays (E,): the first symbol of each edit, the second, …; meaningless beyond its length.
        offsets: W numbers or arrays (E,): the input symbol to which each corresponds, counted from the position of the
            edit, or INSERTED if it corresponds to none.
    """

    consumes: int | Indices
    lengths: int | Indices
    symbols: tuple[Symbols, ...]
    offsets: tuple[int | Indices, ...]

    def take(self, selection: Indices) -> "Emission":
        """Some of the edits, by index."""
        return Emission(
            _taken(self.consumes, selection),
            _taken(self.lengths, selection),
            tuple(values.take(selection) for values in self.symbols),
            tuple(_taken(offsets, selection) for offsets in self.offsets),
        )


def _taken(values: int | Indices, selection: Indices) -> int | Indices:
    return values if isinstance(values, int) else values.take(selection)


class Edits(NamedTuple):
    """The edits that were made: (E,) each, in rising order of positions.

    Attributes:
        positions: the input symbol at which each starts.
        kinds: the index of its kind in the catalogue.
        consumes: how many input symbols it replaced.
        emits: how many output symbols it put in place.
    """

    positions: Indices
    kinds: Indices
    consumes: Indices
    emits: Indices

    @property
    def starts(self) -> Indices:
        """(E,) where the symbols of each edit begin in the output."""
        shifts = np.cumsum(self.emits - self.consumes)
        starts: Indices = self.positions + self.consumes + shifts - self.emits
        return starts


class Noised(NamedTuple):
    """Symbols with noise: `symbols` (M,), their `source` (M,) int32, and the `edits` that were made."""

    symbols: npt.NDArray[Any]
    source: Source
    edits: Edits


def write_edits(symbols: npt.NDArray[Any], edits: Edits, emissions: Sequence[tuple[Indices, Emission]]) -> Noised:
    """Applies edits.

    Args:
        symbols: (N,) the input, which is not changed.
        edits: where to edit; no edit starts inside another.
        emissions: indices of edits with what they put in place; each edit is in one of them.
    """
    shifts = np.cumsum(edits.emits - edits.consumes)
    starts = edits.starts
    length = len(symbols) + (int(shifts[-1]) if len(shifts) else 0)
    # Up to the end of each edit, the output is shifted against the input as after the previous edit; what the edits
    # put in place is then written over it.
    distances = np.zeros(len(shifts) + 1, dtype=np.int64)
    np.negative(shifts, out=distances[1:])
    source = np.repeat(distances, np.diff(starts + edits.emits, prepend=0, append=length))
    source += np.arange(length)
    noised = symbols.take(source, mode="clip") if len(symbols) else symbols.copy()
    edit_map: Source = source.astype(np.int32)
    for own, emission in emissions:
        _write(noised, edit_map, edits.positions[own], starts[own], emission)
    return Noised(noised, edit_map, edits)


def _write(noised: npt.NDArray[Any], source: Source, positions: Indices, starts: Indices, emission: Emission) -> None:
    """Writes what some edits put at `starts` of the output, and its sources."""
    for column, (values, offsets) in enumerate(zip(emission.symbols, emission.offsets, strict=True)):
        at, come_from = starts + column, positions + offsets
        come_from = np.where(offsets == np.int64(INSERTED), INSERTED, come_from)
        if not isinstance(emission.lengths, int):
            written = emission.lengths > column
            at, values, come_from = at[written], values[written], come_from[written]
        noised[at] = values
        source[at] = come_from


def move_starts(starts: Indices, source: Source) -> Indices:
    """Where windows start after noise: (B,) indices into the output for (B,) into the input.

    A window keeps what was inserted after its symbols, and may have become empty.
    """
    return np.searchsorted(_anchors(source), starts).astype(np.int64)


def move_spans(spans: Sequence[Entity], source: Source, length: int) -> list[Entity]:
    """Spans after noise: each covers what is left of its characters, and what was inserted among or right after them.

    A span that lost all its characters is omitted.

    Args:
        spans: spans of the input, half open.
        source: (M,) the edit map.
        length: N, of the input.
    """
    if not spans:
        return []
    places = np.full(length, -1, dtype=np.int64)
    is_kept = source >= 0
    places[source[is_kept]] = np.flatnonzero(is_kept)
    moved = []
    for span in spans:
        left = places[span.start : span.end]
        left = left[left >= 0]
        if len(left):
            end = int(left.max()) + 1
            while end < len(source) and source[end] == INSERTED:
                end += 1
            moved.append(Entity(int(left.min()), end, span.label))
    return moved


def move_tags(tags: npt.NDArray[np.uint8], source: Source) -> npt.NDArray[np.uint8]:
    """BIO tags (N,) after noise, (M,): 0 is O, odd tags begin an entity, even tags continue it.

    What was inserted belongs to the entity of the preceding symbol, and an entity whose first symbol was dropped
    begins at its next one. Exact if no swap crosses the edge of an entity (see `entity_edges`).
    """
    entities = np.cumsum(_begins(tags))
    anchors = _anchors(source)
    moved, entity = tags[anchors], entities[anchors]
    inside = moved > 0
    first = inside & np.append(True, (entity[1:] != entity[:-1]) | ~inside[:-1])[: len(inside)]
    # An entity that was cut by the start of the text has no beginning to move.
    begun = np.append(False, tags[_begins(tags)] % 2 == 1)[entity]
    return np.where(inside, moved + (moved % 2) - (first & begun), 0).astype(np.uint8)


def entity_edges(tags: npt.NDArray[np.uint8]) -> Indices:
    """Indices at which an entity begins, or the text continues after one."""
    edges = _begins(tags)
    edges[1:] |= (tags[1:] == 0) & (tags[:-1] != 0)
    return np.flatnonzero(edges)


def _begins(tags: npt.NDArray[np.uint8]) -> Mask:
    """Where the tags of an entity begin: at a B, or at an I that continues nothing of its label."""
    begins: Mask = tags % 2 == 1
    if len(tags):
        inside = (tags > 0) & ~begins
        label = (tags + np.uint8(1)) >> 1
        begins[0] |= inside[0]
        begins[1:] |= inside[1:] & (label[1:] != label[:-1])
    return begins


def _anchors(source: Source) -> Source:
    """For each output symbol, inserted or not, the last input symbol at or before it; never decreases."""
    return np.maximum.accumulate(source) if len(source) else source
