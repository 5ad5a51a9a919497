"""Patterns of one to four symbols and what each may become, looked up for many places at once."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.noise.replacements import Replacements

MAX_PATTERN = 4
"""Symbols that a pattern has at most: four ids of 16 bits make one key of 64."""

_Indices = npt.NDArray[np.int64]


class Match(NamedTuple):
    """What was found at E places: `consumes` symbols, replacements `starts` to `starts + counts`; 0 where nothing."""

    consumes: _Indices
    starts: _Indices
    counts: _Indices


class Patterns:
    """A table of patterns.

    Args:
        table: for each pattern, as symbols below 2**16, what it may become.
        num_symbols: V.
    """

    def __init__(self, table: Mapping[tuple[int, ...], Sequence[Sequence[int]]], num_symbols: int) -> None:
        rows = sorted((len(pattern), _key(pattern), pattern) for pattern in table)
        assert all(1 <= length <= MAX_PATTERN for length, _, _ in rows)
        flat = [(pattern, one) for _, _, pattern in rows for one in table[pattern]]
        self.replacements = Replacements.of([pattern for pattern, _ in flat], [one for _, one in flat])
        counts = np.array([len(table[pattern]) for _, _, pattern in rows], dtype=np.int64)
        starts = np.cumsum(counts) - counts
        lengths = np.array([length for length, _, _ in rows], dtype=np.int64)
        keys = np.array([key for _, key, _ in rows], dtype=np.uint64)
        self._by_length = {
            length: (keys[lengths == length], starts[lengths == length], counts[lengths == length])
            for length in sorted(set(lengths.tolist()))
        }
        self._may_start = np.zeros(num_symbols, dtype=bool)
        self._may_start[[pattern[0] for _, _, pattern in rows]] = True

    def extended(self, more: int) -> "Patterns":
        """The same for `more` further symbols, with which no pattern begins."""
        extended = copy(self)
        extended._may_start = np.append(self._may_start, np.zeros(more, dtype=bool))
        return extended

    def match(
        self, here: npt.NDArray[Any], after: Callable[[int], npt.NDArray[Any]], reach: npt.NDArray[np.uint8]
    ) -> Match:
        """The longest pattern that begins at each of E places.

        Args:
            here: (E,) the symbols there.
            after: gives the symbols (E,) so many places further on.
            reach: (E,) how many symbols from there on a pattern may have.
        """
        consumes, starts, counts = (np.zeros(len(here), dtype=np.int64) for _ in range(3))
        may = np.flatnonzero(self._may_start.take(here))
        key = here.take(may).astype(np.uint64)
        done = 1
        for length, (keys, first, number) in self._by_length.items():
            for step in range(done, length):
                key = (key << np.uint64(16)) | after(step).take(may).astype(np.uint64)
            done = length
            place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            found = (keys.take(place) == key) & (reach.take(may) >= length)
            at, place = may[found], place[found]
            consumes[at], starts[at], counts[at] = length, first.take(place), number.take(place)
        return Match(consumes, starts, counts)


def _key(pattern: Sequence[int]) -> int:
    key = 0
    for symbol in pattern:
        key = (key << 16) | symbol
    return key
