"""Edit maps: the source of each symbol of a noised text, and how labels and windows move with the symbols.

`source[p]` is the index of the input symbol that output symbol p comes from, or -1 if p was inserted. A swap exchanges
two sources. An inserted symbol always follows the symbol that it was typed with.
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
    """The input and output of E edits; no edit emits more than W symbols.

    Attributes:
        consumes: number of input symbols per edit: one number for all, or (E,).
        lengths: number of output symbols per edit: one number for all, or (E,).
        symbols: W arrays (E,): the first output symbol of each edit, the second, …; undefined beyond its length.
        offsets: W numbers or arrays (E,): the source of each output symbol, relative to the position of its edit, or
            INSERTED.
    """

    consumes: int | Indices
    lengths: int | Indices
    symbols: tuple[Symbols, ...]
    offsets: tuple[int | Indices, ...]

    def take(self, selection: Indices) -> "Emission":
        """The edits at the indices `selection`."""
        return Emission(
            _take(self.consumes, selection),
            _take(self.lengths, selection),
            tuple(values.take(selection) for values in self.symbols),
            tuple(_take(offsets, selection) for offsets in self.offsets),
        )


def _take(values: int | Indices, selection: Indices) -> int | Indices:
    return values if isinstance(values, int) else values.take(selection)


class Edits(NamedTuple):
    """The E edits of a text, ordered by position.

    Attributes:
        positions: (E,) index of the first input symbol.
        kinds: (E,) index of the kind of noise in the catalogue.
        consumes: (E,) number of input symbols replaced.
        emits: (E,) number of output symbols that replace them.
    """

    positions: Indices
    kinds: Indices
    consumes: Indices
    emits: Indices

    @property
    def starts(self) -> Indices:
        """(E,) index of the first output symbol of each edit."""
        shifts = np.cumsum(self.emits - self.consumes)
        starts: Indices = self.positions + self.consumes + shifts - self.emits
        return starts


class Noised(NamedTuple):
    """Noised `symbols` (M,), their `source` (M,) int32, and the `edits`."""

    symbols: npt.NDArray[Any]
    source: Source
    edits: Edits


def write_edits(symbols: npt.NDArray[Any], edits: Edits, emissions: Sequence[tuple[Indices, Emission]]) -> Noised:
    """Applies edits.

    Args:
        symbols: (N,) the input; not changed.
        edits: the edits; they must not overlap.
        emissions: indices into `edits` with the output of those edits; each edit occurs once.
    """
    shifts = np.cumsum(edits.emits - edits.consumes)
    starts = edits.starts
    length = len(symbols) + (int(shifts[-1]) if len(shifts) else 0)
    # Copy the input, shifted by the edits so far, then overwrite the positions of the edits with their output.
    distances = np.zeros(len(shifts) + 1, dtype=np.int64)
    np.negative(shifts, out=distances[1:])
    source = np.repeat(distances, np.diff(starts + edits.emits, prepend=0, append=length))
    source += np.arange(length)
    noised = symbols.take(source, mode="clip") if len(symbols) else symbols.copy()
    edit_map: Source = source.astype(np.int32)
    for indices, emission in emissions:
        _write(noised, edit_map, edits.positions[indices], starts[indices], emission)
    return Noised(noised, edit_map, edits)


def _write(noised: npt.NDArray[Any], source: Source, positions: Indices, starts: Indices, emission: Emission) -> None:
    """Writes the output of edits, and its sources, in place: at `starts` of the output."""
    for column, (values, offsets) in enumerate(zip(emission.symbols, emission.offsets, strict=True)):
        targets, sources = starts + column, positions + offsets
        sources = np.where(offsets == np.int64(INSERTED), INSERTED, sources)
        if not isinstance(emission.lengths, int):
            is_output = emission.lengths > column
            targets, values, sources = targets[is_output], values[is_output], sources[is_output]
        noised[targets] = values
        source[targets] = sources


def move_starts(starts: Indices, source: Source) -> Indices:
    """Maps window starts (B,) in the input to starts (B,) in the output.

    A window keeps the symbols that were inserted after its own. It can become empty.
    """
    return np.searchsorted(_anchors(source), starts).astype(np.int64)


def move_spans(spans: Sequence[Entity], source: Source, length: int) -> list[Entity]:
    """Moves spans of the input to the output.

    A moved span covers its remaining characters, and characters inserted between or directly after them. A span that
    lost all its characters is omitted.

    Args:
        spans: spans of the input; `end` is exclusive.
        source: (M,) the edit map.
        length: N, the length of the input.
    """
    if not spans:
        return []
    targets = np.full(length, -1, dtype=np.int64)
    is_kept = source >= 0
    targets[source[is_kept]] = np.flatnonzero(is_kept)
    moved = []
    for span in spans:
        remaining = targets[span.start : span.end]
        remaining = remaining[remaining >= 0]
        if len(remaining):
            end = int(remaining.max()) + 1
            while end < len(source) and source[end] == INSERTED:
                end += 1
            moved.append(Entity(int(remaining.min()), end, span.label))
    return moved


def move_tags(tags: npt.NDArray[np.uint8], source: Source) -> npt.NDArray[np.uint8]:
    """Moves BIO tags (N,) of the input to the output, (M,): 0 is O, odd tags begin an entity, even tags continue it.

    Inserted symbols belong to the entity of the preceding symbol. An entity that lost its first symbol begins at the
    next one. Exact if no swap crosses the edge of an entity (see `entity_edges`).
    """
    entities = np.cumsum(_begins(tags))
    anchors = _anchors(source)
    moved, entity = tags[anchors], entities[anchors]
    inside = moved > 0
    first = inside & np.append(True, (entity[1:] != entity[:-1]) | ~inside[:-1])[: len(inside)]
    # An entity that the start of the text cuts off has no B tag.
    begun = np.append(False, tags[_begins(tags)] % 2 == 1)[entity]
    return np.where(inside, moved + (moved % 2) - (first & begun), 0).astype(np.uint8)


def entity_edges(tags: npt.NDArray[np.uint8]) -> Indices:
    """Indices at which an entity begins, or the text after an entity."""
    edges = _begins(tags)
    edges[1:] |= (tags[1:] == 0) & (tags[:-1] != 0)
    return np.flatnonzero(edges)


def _begins(tags: npt.NDArray[np.uint8]) -> Mask:
    """(N,) whether an entity begins at each tag: at a B, or at an I that does not continue its label."""
    begins: Mask = tags % 2 == 1
    if len(tags):
        inside = (tags > 0) & ~begins
        label = (tags + np.uint8(1)) >> 1
        begins[0] |= inside[0]
        begins[1:] |= inside[1:] & (label[1:] != label[:-1])
    return begins


def _anchors(source: Source) -> Source:
    """(M,) the last input symbol at or before each output symbol; never decreases."""
    return np.maximum.accumulate(source) if len(source) else source
