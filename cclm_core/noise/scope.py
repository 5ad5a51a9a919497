"""A text to noise: where edits can start, and how many symbols they can replace."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cclm_core.noise.edits import Indices, Mask, Symbols
from cclm_core.noise.tables import EXTENDS, LETTER, LINKS, UNSPACED, SymbolTables

Flags = npt.NDArray[np.uint8]


class Scope:
    """The symbols of a text and their protections.

    Args:
        symbols: (N,) the text.
        tables: the replacements of each symbol.
        protect_first, protect_last, min_word_length, protected_characters: see `NoiseRecipe`.
        protected: (N,) true for symbols that must not be edited.
        starts: sorted indices that no edit may cross.
    """

    def __init__(
        self,
        symbols: npt.NDArray[Any],
        tables: SymbolTables,
        *,
        protect_first: bool = False,
        protect_last: bool = False,
        min_word_length: int = 1,
        protected_characters: str = "",
        protected: Mask | None = None,
        starts: Indices | None = None,
    ) -> None:
        self.symbols, self.tables = symbols, tables
        self._protect_first, self._protect_last = protect_first, protect_last
        self._min_word_length = min_word_length
        self._protected, self._protected_symbols = protected, tables.mask_of(protected_characters)
        self._is_start: Mask | None = None
        if starts is not None and len(starts):
            self._is_start = np.zeros(len(symbols) + 1, dtype=bool)
            self._is_start[starts] = True

    def flags(self, at: Indices) -> Flags:
        """(E,) the flags (see `noise.tables`) of the symbols at sorted indices; 0 outside the text."""
        flags: Flags = self.tables.flags.take(self.symbols.take(at, mode="clip"))
        if len(at) and (at[0] < 0 or at[-1] >= len(self.symbols)):  # sorted: checking the ends is enough
            flags[(at < 0) | (at >= len(self.symbols))] = 0
        return flags

    def editable(self, at: Indices) -> Mask:
        """(E,) whether each of the symbols at sorted indices may be edited."""
        return self._editable(at, self.flags(at))

    def may_cross(self, at: Indices) -> Mask:
        """(E,) whether an edit may cross the boundary before each index."""
        if self._is_start is None:
            return np.ones(len(at), dtype=bool)
        return ~self._is_start.take(at, mode="clip")

    def sites(self, positions: Indices, acts_on: int, reach: int) -> "Sites":
        """The positions at which an edit can start.

        Args:
            positions: candidates: sorted indices of symbols.
            acts_on: a bitmask of flags; the symbol must have at least one of them.
            reach: the maximum of `Sites.reach` to compute.
        """
        flags = self.flags(positions)
        is_candidate = flags & acts_on != 0
        positions, flags = positions.compress(is_candidate), flags.compress(is_candidate)
        editable = np.flatnonzero(self._editable(positions, flags))
        positions, flags = positions.take(editable), flags.take(editable)
        reached = np.ones(len(positions), dtype=np.uint8)
        active = np.arange(len(positions))
        for step in range(1, reach):
            after = positions[active] + step
            inside = (after < len(self.symbols)) & self.may_cross(after)
            active, after = active[inside], after[inside]
            active = active[self.editable(after)]
            reached[active] += 1
        return Sites(self, positions, self.symbols.take(positions), flags, reached)

    def words(self) -> tuple[Indices, Indices]:
        """The start and end (exclusive) of each word: a run of letters; without spaces, every two letters of a run."""
        flags = self.tables.flags.take(self.symbols)
        is_letter = np.zeros(len(self.symbols) + 2, dtype=np.int8)
        is_letter[1:-1] = flags & LETTER
        if (flags & UNSPACED).any():
            return _words_without_spaces(flags)
        change = np.diff(is_letter)
        return np.flatnonzero(change == 1), np.flatnonzero(change == -1)

    def _editable(self, at: Indices, flags: Flags) -> Mask:
        before, after = self.flags(at - 1), self.flags(at + 1)
        editable: Mask = (((flags | after) & EXTENDS) | (before & LINKS)) == 0
        if self._protected is not None and len(at):
            editable &= ~self._protected.take(at, mode="clip")
        if self._protected_symbols is not None and len(at):
            editable &= ~self._protected_symbols.take(self.symbols.take(at, mode="clip"))
        no_letter = flags & LETTER == 0
        if self._protect_first:
            editable &= no_letter | (before & LETTER != 0)
        if self._protect_last:
            editable &= no_letter | (after & LETTER != 0)
        if self._min_word_length > 1:
            editable &= no_letter | (self._word_length(at) >= self._min_word_length)
        return editable

    def _word_length(self, at: Indices) -> Indices:
        """(E,) number of letters of the word around each index; exact only below `min_word_length`."""
        length = np.ones(len(at), dtype=np.int64)
        for direction in (-1, 1):
            inside = np.ones(len(at), dtype=bool)
            for step in range(1, self._min_word_length):
                inside &= self.flags(at + direction * step) & LETTER != 0
                length += inside
        return length


_LETTERS_PER_WORD = 2  # in scripts without spaces: 1.5 to 2 in Chinese and Japanese, more in Thai


def _words_without_spaces(flags: Flags) -> tuple[Indices, Indices]:
    """The start and end of each word of a text with the flags (N,), some of which are UNSPACED."""
    unspaced = flags & UNSPACED != 0
    is_letter = flags & LETTER != 0
    inside = is_letter | ((flags & EXTENDS != 0) & unspaced)
    padded = np.concatenate([[0], np.where(inside, 1 + unspaced, 0), [0]])
    runs = np.flatnonzero((np.diff(padded) != 0)[:-1] & inside)
    run_ends = np.flatnonzero((np.diff(padded) != 0)[1:] & inside) + 1
    letters_before = np.cumsum(is_letter) - is_letter
    run = np.searchsorted(runs, np.arange(len(flags)), side="right") - 1
    rank = letters_before - letters_before[runs[run]]  # of a letter in its run
    begins = inside & unspaced & is_letter & (rank % _LETTERS_PER_WORD == 0)
    begins[runs] = True
    starts = np.flatnonzero(begins)
    following = np.append(starts[1:], len(flags))
    ends = np.minimum(following, run_ends[np.searchsorted(run_ends, starts, side="right")])
    return starts, ends


@dataclass(frozen=True)
class Sites:
    """E positions at which an edit can start.

    Attributes:
        scope: the text.
        positions: (E,) indices into the text.
        symbols: (E,) the symbols at these indices.
        flags: (E,) the flags of these symbols.
        reach: (E,) number of symbols, starting here, that one edit may replace: 1 to the highest `Kind.reach`.
    """

    scope: Scope
    positions: Indices
    symbols: Symbols
    flags: Flags
    reach: Flags

    @property
    def tables(self) -> SymbolTables:
        """The replacements of each symbol."""
        return self.scope.tables

    def symbols_after(self, offset: int) -> Symbols:
        """(E,) the symbols `offset` positions later; beyond the end of the text, its last symbol."""
        symbols: Symbols = self.scope.symbols.take(self.positions + offset, mode="clip")
        return symbols

    def take(self, selection: Indices) -> "Sites":
        """The sites at the indices `selection`."""
        parts = (self.positions, self.symbols, self.flags, self.reach)
        return Sites(self.scope, *(part.take(selection) for part in parts))  # type: ignore[arg-type]
