"""Lookup tables that map sequences of symbols to replacements, for many positions at once.

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
    """The sequences found at E positions.

    Attributes:
        consumes: (E,) length of the sequence in symbols; 0 without a match.
        starts: (E,) index of its first replacement in the table.
        counts: (E,) number of its replacements, each counted as often as its weight.
    """

    consumes: Indices
    starts: Indices
    counts: Indices


class Lookup:
    """A table of symbol sequences, keyed by a 64-bit hash, and their replacements.

    The probability that two of a million sequences have the same hash is 1 in 37 million.

    Args:
        table: for each sequence, its replacements with their weights, integers from 1.
    """

    def __init__(self, table: Mapping[tuple[int, ...], Mapping[tuple[int, ...], int]]) -> None:
        sequences = list(table)
        hashes = _hashes(sequences)
        order = np.argsort(hashes)
        sequences = [sequences[index] for index in order.tolist()]
        rows = [(sequence, *weighted) for sequence in sequences for weighted in table[sequence].items()]
        self._keys = hashes[order]
        self._counts = np.array([sum(table[sequence].values()) for sequence in sequences], dtype=np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        # A replacement of weight n is listed n times.
        weights = np.array([weight for _, _, weight in rows], dtype=np.int64)
        self._replacements = np.repeat(np.arange(len(rows)), weights)
        self._longest = max(map(len, sequences), default=0)
        # Whether a sequence starts with each symbol; the last item stands for all higher symbols.
        self._is_first = np.zeros(max((sequence[0] for sequence in sequences), default=-1) + 2, dtype=bool)
        self._is_first[[sequence[0] for sequence in sequences]] = True
        # R rows, one per replacement: (R,) lengths, and (W, R) symbols and offsets as in `Emission`.
        self._lengths = np.array([len(replacement) for _, replacement, _ in rows], dtype=np.int64)
        self._symbols = np.zeros((int(self._lengths.max(initial=0)), len(rows)), dtype=np.int64)
        self._offsets = np.full_like(self._symbols, INSERTED)
        for column, (sequence, replacement, _) in enumerate(rows):
            self._symbols[: len(replacement), column] = replacement
            self._offsets[: len(replacement), column] = align(sequence, replacement)

    def __len__(self) -> int:
        return len(self._keys)

    def longest(self, symbols: Symbols, after: Callable[[int], Symbols], reach: npt.NDArray[np.uint8]) -> Match:
        """Finds the longest sequence that starts at each of E positions.

        Args:
            symbols: (E,) the symbols at these positions.
            after: returns the symbols (E,) that follow at the given distance.
            reach: (E,) the maximum length of a sequence.
        """
        match = _no_match(len(symbols))
        active = np.flatnonzero(self._is_first.take(symbols, mode="clip"))
        keys = _step(np.zeros(len(active), dtype=np.uint64), symbols.take(active))
        for length in range(1, self._longest + 1):
            if length > 1:
                within_reach = reach.take(active) >= length
                active, keys = active[within_reach], keys[within_reach]
                keys = _step(keys, after(length - 1).take(active))
            self._record(match, active, keys, length)
        return match

    def words(
        self,
        positions: Indices,
        first: Symbols,
        symbol: Callable[[Indices], Symbols],
        continues: Callable[[Indices], Mask],
    ) -> Match:
        """Looks up the whole words that start at E positions.

        Args:
            positions: (E,) the start of each word.
            first: (E,) the first symbol of each word.
            symbol: returns the symbols at indices after the first.
            continues: returns whether the symbols at indices belong to the word of the previous symbol.
        """
        match = _no_match(len(positions))
        active = np.arange(len(positions))
        keys = _step(np.zeros(len(positions), dtype=np.uint64), first)
        for length in range(1, self._longest + 1):
            is_longer = continues(positions[active] + length)
            self._record(match, active[~is_longer], keys[~is_longer], length)
            active = active[is_longer]
            keys = _step(keys[is_longer], symbol(positions[active] + length))
        return match

    def emission(self, match: Match, choices: Indices) -> Emission:
        """The replacements of E matches: those with the index in `choices` (E,), from 0 to `counts` - 1."""
        rows = self._replacements.take(match.starts + choices)
        lengths = self._lengths.take(rows)
        width = int(lengths.max(initial=0))
        symbols, offsets = (
            tuple(line.take(rows) for line in lines[:width]) for lines in (self._symbols, self._offsets)
        )
        return Emission(match.consumes, lengths, symbols, offsets)

    def _record(self, match: Match, items: Indices, keys: Keys, length: int) -> None:
        """Writes the sequences that have the hashes `keys` into these items of a match."""
        if not len(self) or not len(items):
            return
        rows = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        is_listed = self._keys.take(rows) == keys
        items, rows = items[is_listed], rows[is_listed]
        match.consumes[items], match.starts[items], match.counts[items] = length, self._starts[rows], self._counts[rows]


def align(text: Sequence[Hashable], replacement: Sequence[Hashable]) -> tuple[int, ...]:
    """Returns, for each item of `replacement`, the index of its source in `text`, or INSERTED.

    Uses the fewest insertions, deletions, substitutions and swaps of adjacent items (optimal string alignment). The
    first item always has a source.
    """
    num_equal = 0  # length of the common prefix, which has no edits
    while num_equal < min(len(text), len(replacement)) and text[num_equal] == replacement[num_equal]:
        num_equal += 1
    rest = _align(text[num_equal:], replacement[num_equal:])
    offsets = [*range(num_equal), *(offset + num_equal if offset != INSERTED else INSERTED for offset in rest)]
    if text and replacement and offsets[0] == INSERTED:
        # Items inserted before the text must not be attributed to the symbol before it.
        if 0 in offsets:
            offsets[offsets.index(0)] = INSERTED
        offsets[0] = 0
    return tuple(offsets)


def _align(text: Sequence[Hashable], replacement: Sequence[Hashable]) -> list[int]:
    """Backtracks through the prefix distances; prefers substitutions, then swaps, then deletions."""
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
    """(S,) the hash of each of S sequences."""
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    symbols = np.zeros((len(sequences), int(lengths.max(initial=0))), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        symbols[row, : len(sequence)] = sequence
    keys = np.zeros(len(sequences), dtype=np.uint64)
    for position, column in enumerate(symbols.T):
        keys = np.where(lengths > position, _step(keys, column), keys)
    return keys


def _step(keys: Keys, symbols: npt.NDArray[Any]) -> Keys:
    """Extends sequences by one symbol each: from their hashes to the new hashes."""
    return mix64(keys ^ (symbols.astype(np.uint64) + np.uint64(1)))
