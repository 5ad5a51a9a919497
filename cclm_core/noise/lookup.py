"""Lookup tables from sequences of symbols to their replacements, queried at many positions at once.

>>> align("m", "rn"), align("knife", "nife")
((0, -1), (1, 2, 3, 4))
>>> align("their", "thier")
(0, 1, 3, 2, 4)
>>> align("cat", "caat"), align("cat", "acat")
((0, 1, -1, 2), (0, -1, 1, 2))
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import OSA

from cclm_core.noise.edits import INSERTED, Emission, Indices, Mask, Symbols
from cclm_core.runtime.random import mix64

Keys = npt.NDArray[np.uint64]


class Match(NamedTuple):
    """What was found at E positions.

    Attributes:
        consumes: (E,) how many symbols the sequence has; 0 where none was found.
        starts: (E,) where its ways begin in the table.
        counts: (E,) in how many ways it can be replaced.
    """

    consumes: Indices
    starts: Indices
    counts: Indices


class Lookup:
    """A table of sequences of symbols, by their 64-bit hash, and what may replace each.

    Two of a million sequences have the same hash in one of 37 million tables.

    Args:
        table: for each sequence its replacements, each with a weight, a whole number from 1: in how many ways of the
            sequence it comes.
    """

    def __init__(self, table: Mapping[tuple[int, ...], Mapping[tuple[int, ...], int]]) -> None:
        sequences = list(table)
        hashes = _hashes(sequences)
        order = np.argsort(hashes)
        sequences = [sequences[index] for index in order.tolist()]
        rows = [(sequence, *way) for sequence in sequences for way in table[sequence].items()]
        self._keys = hashes[order]
        self._counts = np.array([sum(table[sequence].values()) for sequence in sequences], dtype=np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        # A replacement of weight n is listed n times.
        self._ways = np.repeat(np.arange(len(rows)), np.array([weight for _, _, weight in rows], dtype=np.int64))
        self._longest = max(map(len, sequences), default=0)
        # Whether a sequence starts with a symbol; the last item is for all symbols beyond.
        self._is_first = np.zeros(max((sequence[0] for sequence in sequences), default=-1) + 2, dtype=bool)
        self._is_first[[sequence[0] for sequence in sequences]] = True
        # What is put: (W, R) symbols and offsets, meaningless beyond the length, and (R,) lengths; see `Emission`.
        self._lengths = np.array([len(replacement) for _, replacement, _ in rows], dtype=np.int64)
        self._symbols = np.zeros((int(self._lengths.max(initial=0)), len(rows)), dtype=np.int64)
        self._offsets = np.full_like(self._symbols, INSERTED)
        for column, (sequence, replacement, _) in enumerate(rows):
            self._symbols[: len(replacement), column] = replacement
            self._offsets[: len(replacement), column] = align(sequence, replacement)

    def __len__(self) -> int:
        return len(self._keys)

    def longest(self, here: Symbols, after: Callable[[int], Symbols], reach: npt.NDArray[np.uint8]) -> Match:
        """The longest sequence that starts at each of E positions.

        Args:
            here: (E,) the symbols there.
            after: returns the symbols (E,) that are this number of positions further on.
            reach: (E,) how many symbols from there on a sequence may have.
        """
        match = _no_match(len(here))
        open_ = np.flatnonzero(self._is_first.take(here, mode="clip"))
        keys = _step(np.zeros(len(open_), dtype=np.uint64), here.take(open_))
        for length in range(1, self._longest + 1):
            if length > 1:
                able = reach.take(open_) >= length
                open_, keys = open_[able], keys[able]
                keys = _step(keys, after(length - 1).take(open_))
            self._record(match, open_, keys, length)
        return match

    def words(
        self,
        positions: Indices,
        first: Symbols,
        symbol: Callable[[Indices], Symbols],
        continues: Callable[[Indices], Mask],
    ) -> Match:
        """The listed words among those that start at E positions.

        Args:
            positions: (E,) where words start.
            first: (E,) the symbols there.
            symbol: returns the later symbols of words, at indices.
            continues: whether the symbols at indices belong to the word of the symbol before them.
        """
        match = _no_match(len(positions))
        open_ = np.arange(len(positions))
        keys = _step(np.zeros(len(positions), dtype=np.uint64), first)
        for length in range(1, self._longest + 1):
            goes_on = continues(positions[open_] + length)
            self._record(match, open_[~goes_on], keys[~goes_on], length)
            open_ = open_[goes_on]
            keys = _step(keys[goes_on], symbol(positions[open_] + length))
        return match

    def emission(self, match: Match, which: Indices) -> Emission:
        """Puts, at E matches, the way `which` (E,), which is below its count there."""
        rows = self._ways.take(match.starts + which)
        lengths = self._lengths.take(rows)
        width = int(lengths.max(initial=0))
        symbols, offsets = (
            tuple(line.take(rows) for line in lines[:width]) for lines in (self._symbols, self._offsets)
        )
        return Emission(match.consumes, lengths, symbols, offsets)

    def _record(self, match: Match, at: Indices, keys: Keys, length: int) -> None:
        """Enters what has the `keys` into the places `at` of a match."""
        if not len(self) or not len(at):
            return
        rows = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = self._keys.take(rows) == keys
        at, rows = at[found], rows[found]
        match.consumes[at], match.starts[at], match.counts[at] = length, self._starts[rows], self._counts[rows]


def align(text: Sequence[Hashable], replacement: Sequence[Hashable]) -> tuple[int, ...]:
    """For each item of `replacement` the index of the item of `text` to which it corresponds, or INSERTED.

    Follows the fewest insertions, deletions, substitutions and swaps of neighbors (the optimal string alignment
    distance); the first item always corresponds to one.
    """
    same = 0  # items at the start that are equal; the distance is that of the rest
    while same < min(len(text), len(replacement)) and text[same] == replacement[same]:
        same += 1
    rest = _align(text[same:], replacement[same:])
    offsets = [*range(same), *(offset + same if offset != INSERTED else INSERTED for offset in rest)]
    if text and replacement and offsets[0] == INSERTED:
        # What is inserted before the text belongs to the text, not to what precedes it.
        if 0 in offsets:
            offsets[offsets.index(0)] = INSERTED
        offsets[0] = 0
    return tuple(offsets)


def _align(text: Sequence[Hashable], replacement: Sequence[Hashable]) -> list[int]:
    """Walks back along the distances of prefixes; prefers substitutions, then swaps, then deletions."""
    row, column = len(text), len(replacement)
    offsets = [INSERTED] * column
    while row and column:
        cost = OSA.distance(text[:row], replacement[:column])
        differs = text[row - 1] != replacement[column - 1]
        is_swap = (
            min(row, column) > 1
            and text[row - 1] == replacement[column - 2]
            and text[row - 2] == replacement[column - 1]
        )
        if cost == OSA.distance(text[: row - 1], replacement[: column - 1]) + differs:
            row, column = row - 1, column - 1
            offsets[column] = row
        elif is_swap and cost == OSA.distance(text[: row - 2], replacement[: column - 2]) + 1:
            row, column = row - 2, column - 2
            offsets[column], offsets[column + 1] = row + 1, row
        elif cost == OSA.distance(text[: row - 1], replacement[:column]) + 1:
            row -= 1
        else:
            column -= 1
    return offsets


def _no_match(length: int) -> Match:
    return Match(*(np.zeros(length, dtype=np.int64) for _ in Match._fields))


def _hashes(sequences: Sequence[tuple[int, ...]]) -> Keys:
    """The hash of each sequence."""
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    symbols = np.zeros((len(sequences), int(lengths.max(initial=0))), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        symbols[row, : len(sequence)] = sequence
    keys = np.zeros(len(sequences), dtype=np.uint64)
    for position, column in enumerate(symbols.T):
        keys = np.where(lengths > position, _step(keys, column), keys)
    return keys


def _step(keys: Keys, symbols: npt.NDArray[Any]) -> Keys:
    """The hashes of sequences that are one symbol longer."""
    return mix64(keys ^ (symbols.astype(np.uint64) + np.uint64(1)))
