"""A text to be noised: where an edit may start, and how many symbols it may replace."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cclm_core.noise.edits import Indices, Mask, Symbols
from cclm_core.noise.tables import EXTENDS, LETTER, LINKS, SymbolTables

Flags = npt.NDArray[np.uint8]


class Scope:
    """The symbols of a text with what is protected in it.

    Args:
        symbols: (N,) the text.
        tables: what each symbol may become.
        protect_first, protect_last, min_word_length, protected_characters: see `NoiseRecipe`.
        protected: (N,) true where a symbol must stay as it is.
        starts: rising indices; no edit reaches across one.
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
        self._protected, self._spared = protected, tables.spared(protected_characters)
        self._is_start: Mask | None = None
        if starts is not None and len(starts):
            self._is_start = np.zeros(len(symbols) + 1, dtype=bool)
            self._is_start[starts] = True

    def flags(self, at: Indices) -> Flags:
        """(E,) the flags of the symbols at rising indices, see `noise.tables`; 0 outside the text."""
        flags: Flags = self.tables.flags.take(self.symbols.take(at, mode="clip"))
        if len(at) and (at[0] < 0 or at[-1] >= len(self.symbols)):  # rising: only the ends can be outside
            flags[(at < 0) | (at >= len(self.symbols))] = 0
        return flags

    def free(self, at: Indices) -> Mask:
        """(E,) whether the symbols at indices may be edited, each on its own."""
        return self._free(at, self.flags(at))

    def joined(self, at: Indices) -> Mask:
        """(E,) whether an edit may reach across the border before the symbols at indices."""
        if self._is_start is None:
            return np.ones(len(at), dtype=bool)
        return ~self._is_start.take(at, mode="clip")

    def sites(self, positions: Indices, acts_on: int, reach: int) -> "Sites":
        """The sites among `positions`: where an edit may start.

        Args:
            positions: indices of symbols, rising.
            acts_on: flags, one of which the symbol must have.
            reach: the highest `Sites.reach` that is needed.
        """
        flags = self.flags(positions)
        is_candidate = flags & acts_on != 0
        positions, flags = positions.compress(is_candidate), flags.compress(is_candidate)
        free = np.flatnonzero(self._free(positions, flags))
        positions, flags = positions.take(free), flags.take(free)
        reached = np.ones(len(positions), dtype=np.uint8)
        open_ = np.arange(len(positions))
        for step in range(1, reach):
            after = positions[open_] + step
            inside = (after < len(self.symbols)) & self.joined(after)
            open_, after = open_[inside], after[inside]
            open_ = open_[self.free(after)]
            reached[open_] += 1
        return Sites(self, positions, self.symbols.take(positions), flags, reached)

    def words(self) -> tuple[Indices, Indices]:
        """Where words, which are runs of letters, begin and end (half open)."""
        is_letter = np.zeros(len(self.symbols) + 2, dtype=np.int8)
        is_letter[1:-1] = self.tables.flags.take(self.symbols) & LETTER
        change = np.diff(is_letter)
        return np.flatnonzero(change == 1), np.flatnonzero(change == -1)

    def _free(self, at: Indices, here: Flags) -> Mask:
        before, after = self.flags(at - 1), self.flags(at + 1)
        free: Mask = (((here | after) & EXTENDS) | (before & LINKS)) == 0
        if self._protected is not None and len(at):
            free &= ~self._protected.take(at, mode="clip")
        if self._spared is not None and len(at):
            free &= ~self._spared.take(self.symbols.take(at, mode="clip"))
        no_letter = here & LETTER == 0
        if self._protect_first:
            free &= no_letter | (before & LETTER != 0)
        if self._protect_last:
            free &= no_letter | (after & LETTER != 0)
        if self._min_word_length > 1:
            free &= no_letter | (self._word_length(at) >= self._min_word_length)
        return free

    def _word_length(self, at: Indices) -> Indices:
        """(E,) letters of the words at indices; counted only as far as `min_word_length` requires."""
        length = np.ones(len(at), dtype=np.int64)
        for direction in (-1, 1):
            inside = np.ones(len(at), dtype=bool)
            for step in range(1, self._min_word_length):
                inside &= self.flags(at + direction * step) & LETTER != 0
                length += inside
        return length


@dataclass(frozen=True)
class Sites:
    """E places at which an edit may start.

    Attributes:
        scope: the text.
        positions: (E,) indices of symbols.
        here: (E,) the symbols there.
        flags: (E,) the flags of these symbols.
        reach: (E,) how many symbols from there on may be edited together, 1 to the highest `Kind.reach` of a recipe.
    """

    scope: Scope
    positions: Indices
    here: Symbols
    flags: Flags
    reach: Flags

    @property
    def tables(self) -> SymbolTables:
        """What each symbol may become."""
        return self.scope.tables

    def symbols_after(self, offset: int) -> Symbols:
        """(E,) the symbols `offset` positions further on; beyond the end of the text, its last symbol."""
        symbols: Symbols = self.scope.symbols.take(self.positions + offset, mode="clip")
        return symbols

    def take(self, selection: Indices) -> "Sites":
        """Some of the sites, by index."""
        parts = (self.positions, self.here, self.flags, self.reach)
        return Sites(self.scope, *(part.take(selection) for part in parts))  # type: ignore[arg-type]
