"""A text under a recipe: where an edit may start, and how far it may reach."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cclm_core.noise.kind import Indices, Mask, Sites
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import EXTENDS, LETTER, LINKS, SymbolTables


class RecipeScope:
    """What `kind.Scope` promises, for one call of `apply`; see there for the arguments."""

    def __init__(
        self,
        recipe: NoiseRecipe,
        symbols: npt.NDArray[Any],
        tables: SymbolTables,
        protected: Mask | None = None,
        starts: Indices | None = None,
    ) -> None:
        self.recipe, self.symbols, self.tables, self.protected = recipe, symbols, tables, protected
        self._spared = tables.spared(recipe.protected_characters)
        self._fences: Mask | None = None
        if starts is not None and len(starts):
            self._fences = np.zeros(len(symbols) + 1, dtype=bool)
            self._fences[starts] = True

    def flags(self, at: Indices) -> npt.NDArray[np.uint8]:
        """See `kind.Scope`."""
        found: npt.NDArray[np.uint8] = self.tables.flags.take(self.symbols.take(at, mode="clip"))
        if len(at) and (at[0] < 0 or at[-1] >= len(self.symbols)):  # rising: only the ends can be outside
            found[(at < 0) | (at >= len(self.symbols))] = 0
        return found

    def free(self, at: Indices) -> Mask:
        """See `kind.Scope`."""
        return self._free(at, self.flags(at))

    def _free(self, at: Indices, here: npt.NDArray[np.uint8]) -> Mask:
        before, after = self.flags(at - 1), self.flags(at + 1)
        free: Mask = (((here | after) & EXTENDS) | (before & LINKS)) == 0
        if self.protected is not None and len(at):
            free &= ~self.protected.take(at, mode="clip")
        if self._spared is not None and len(at):
            free &= ~self._spared.take(self.symbols.take(at, mode="clip"))
        recipe = self.recipe
        if not self._words_matter():
            return free
        letter = here & LETTER != 0
        if recipe.protect_first:
            free &= ~letter | (before & LETTER != 0)
        if recipe.protect_last:
            free &= ~letter | (after & LETTER != 0)
        if recipe.min_word_length > 1:
            free &= ~letter | (self._word_length(at) >= recipe.min_word_length)
        return free

    def joined(self, at: Indices) -> Mask:
        """See `kind.Scope`."""
        if self._fences is None:
            return np.ones(len(at), dtype=bool)
        return ~self._fences.take(at, mode="clip")

    def fixed(self) -> Mask:
        """(N,) which symbols are protected for a reason that no flag of a neighbour says; (0,) if there is none."""
        if self.protected is None and self._spared is None and not self._words_matter():
            return np.zeros(0, dtype=bool)
        return ~self.free(np.arange(len(self.symbols)))

    def fences(self) -> Mask:
        """(N + 1,) before which symbols a window or an entity begins or ends; (0,) if there is none."""
        return np.zeros(0, dtype=bool) if self._fences is None else self._fences

    def sites(self, positions: Indices, acts_on: int, reach: int) -> Sites:
        """Those of `positions` at which an edit may start.

        Args:
            positions: indices of symbols, rising.
            acts_on: flags, one of which the symbol must have.
            reach: how far `Sites.reach` is to be known.
        """
        flags = self.flags(positions)
        positions = positions.compress(flags & acts_on != 0)
        free = np.flatnonzero(self._free(positions, flags.compress(flags & acts_on != 0)))
        positions = positions.take(free)
        reached = np.ones(len(positions), dtype=np.uint8)
        goes_on = np.arange(len(positions))
        for step in range(1, reach):
            behind = positions[goes_on] + step
            inside = (behind < len(self.symbols)) & self.joined(behind)
            goes_on, behind = goes_on[inside], behind[inside]
            goes_on = goes_on[self.free(behind)]
            reached[goes_on] += 1
        return Sites(self, positions, self.symbols.take(positions), self.flags(positions), reached)

    def words(self) -> tuple[Indices, Indices]:
        """Where words, which are runs of letters, begin and end (exclusively)."""
        letters = np.zeros(len(self.symbols) + 2, dtype=np.int8)
        letters[1:-1] = self.tables.flags.take(self.symbols) & LETTER
        change = np.diff(letters)
        return np.flatnonzero(change == 1), np.flatnonzero(change == -1)

    def _words_matter(self) -> bool:
        recipe = self.recipe
        return recipe.protect_first or recipe.protect_last or recipe.min_word_length > 1

    def _word_length(self, at: Indices) -> Indices:
        """(E,) letters of the words at indices, as far as `min_word_length` needs them counted."""
        length = np.ones(len(at), dtype=np.int64)
        for direction in (-1, 1):
            reached = np.ones(len(at), dtype=bool)
            for step in range(1, self.recipe.min_word_length):
                reached &= self.flags(at + direction * step) & LETTER != 0
                length += reached
        return length
