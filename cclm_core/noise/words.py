"""Whole words and what they may become, looked up for many places at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.noise.replacements import Replacements

MAX_WORD = 40
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

_Indices = npt.NDArray[np.int64]


class WordMatch(NamedTuple):
    """What was found at E words: each consumes its length; its ways are `Words.numbers[starts : starts + counts]`."""

    consumes: _Indices
    starts: _Indices
    counts: _Indices


class Words:
    """A table of words, by a 64-bit hash of their symbols (two of a million words collide once in 37 million tables).

    Args:
        table: for each word, as symbols, what it may become, each with a weight, a whole number from 1: in so many
            ways it is made.
    """

    def __init__(self, table: Mapping[tuple[int, ...], Sequence[tuple[Sequence[int], int]]]) -> None:
        hashes = {word: _hash(word) for word in table}
        order = sorted(table, key=lambda word: hashes[word])
        flat = [(word, one, weight) for word in order for one, weight in table[word]]
        self.replacements = Replacements.of([word for word, _, _ in flat], [one for _, one, _ in flat])
        # As often as a replacement weighs, its number.
        self.numbers = np.repeat(np.arange(len(flat)), np.array([weight for _, _, weight in flat], dtype=np.int64))
        self._keys = np.array([hashes[word] for word in order], dtype=np.uint64)
        self._counts = np.array([sum(weight for _, weight in table[word]) for word in order], dtype=np.int64)
        self._starts = np.cumsum(self._counts) - self._counts

    def __len__(self) -> int:
        return len(self._keys)

    def match(
        self,
        positions: _Indices,
        first: npt.NDArray[Any],
        symbol: Callable[[_Indices], npt.NDArray[Any]],
        goes_on: Callable[[_Indices], npt.NDArray[np.bool_]],
    ) -> WordMatch:
        """Looks up the words that begin at `positions` (E,).

        Args:
            positions: where words begin.
            first: (E,) the symbols there.
            symbol: the later symbols of a word, at indices.
            goes_on: whether the symbols at indices belong to the word of the symbol before them.
        """
        consumes, starts, counts = (np.zeros(len(positions), dtype=np.int64) for _ in range(3))
        if not len(self):
            return WordMatch(consumes, starts, counts)
        keys = _step(np.zeros(len(positions), dtype=np.uint64), first)
        length = np.ones(len(positions), dtype=np.int64)
        open_ = np.arange(len(positions))
        for step in range(1, MAX_WORD + 1):
            open_ = open_[goes_on(positions[open_] + step)]
            if not len(open_):
                break
            keys[open_] = _step(keys[open_], symbol(positions[open_] + step))
            length[open_] += 1
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = self._keys[place] == keys
        found[open_] = False  # longer than any word in the table
        consumes[found] = length[found]
        starts[found], counts[found] = self._starts[place[found]], self._counts[place[found]]
        return WordMatch(consumes, starts, counts)


def _step(keys: npt.NDArray[np.uint64], symbols: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    mixed = (keys ^ (symbols.astype(np.uint64) + np.uint64(1))) * _FACTOR
    return mixed ^ (mixed >> np.uint64(29))


def _hash(word: Sequence[int]) -> int:
    key = np.zeros(1, dtype=np.uint64)
    for symbol in word:
        key = _step(key, np.array([symbol]))
    return int(key[0])
