"""The contract of a kind of noise: where it may act, in how many ways, and what it puts there.

An edit replaces some input symbols, from a position on, by output symbols, each of which may stand for one of them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cclm_core.noise.replacements import INSERTED as INSERTED
from cclm_core.noise.tables import LETTER, SymbolTables

Symbols = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


class Scope(Protocol):
    """A text under a recipe, as kinds see it; what stands outside the text has no flags."""

    symbols: npt.NDArray[Any]
    tables: SymbolTables

    def flags(self, at: Indices) -> npt.NDArray[np.uint8]:
        """(E,) the flags of the symbols at indices, of `tables`; 0 outside the text."""

    def free(self, at: Indices) -> Mask:
        """(E,) whether the symbols may be edited, on their own."""

    def joined(self, at: Indices) -> Mask:
        """(E,) whether an edit may reach across the border before the symbols."""


@dataclass(frozen=True)
class Sites:
    """Places at which an edit may start; E of them.

    Attributes:
        scope: the text that they are in.
        positions: (E,) indices of symbols.
        here: (E,) the symbols there.
        flags: (E,) and their flags.
        reach: (E,) how many symbols from there on may be edited together, 1 to the highest `Kind.reach` of a recipe.
    """

    scope: Scope
    positions: Indices
    here: Symbols
    flags: npt.NDArray[np.uint8]
    reach: npt.NDArray[np.uint8]

    @property
    def tables(self) -> SymbolTables:
        """What each symbol may become."""
        return self.scope.tables

    def symbols_after(self, offset: int) -> Symbols:
        """(E,) the symbols `offset` places further on; those at the end of the text stand for what lies behind it."""
        found: Symbols = self.scope.symbols.take(self.positions + offset, mode="clip")
        return found

    def take(self, chosen: Indices) -> "Sites":
        """Some of the sites, by index."""
        parts = (self.positions, self.here, self.flags, self.reach)
        return Sites(self.scope, *(part.take(chosen) for part in parts))  # type: ignore[arg-type]


class Emission(NamedTuple):
    """What E edits replace and what they put there.

    Attributes:
        consumes: how many input symbols each replaces: one number for all, or (E,).
        lengths: how many symbols each puts there: one number, or (E,), at most W.
        symbols: W arrays (E,): the first symbol of every edit, the second, …; meaningless beyond its length.
        offsets: W numbers or arrays (E,): the input symbol for which each stands, counted from the position of the
            edit, or INSERTED where it stands for none.
    """

    consumes: int | Indices
    lengths: int | Indices
    symbols: tuple[Symbols, ...]
    offsets: tuple[int | Indices, ...]

    def take(self, chosen: Indices) -> "Emission":
        """Some of the edits, by index."""
        return Emission(
            _taken(self.consumes, chosen),
            _taken(self.lengths, chosen),
            tuple(values.take(chosen) for values in self.symbols),
            tuple(_taken(offsets, chosen) for offsets in self.offsets),
        )


def _taken(values: int | Indices, chosen: Indices) -> int | Indices:
    return values if isinstance(values, int) else values.take(chosen)


class Kind(ABC):
    """One kind of typing error.

    Attributes:
        acts_on: flags of the symbols at which it may start.
        reach: how many input symbols an edit may replace at most, where `Sites.reach` is what limits it.
    """

    acts_on: ClassVar[int] = LETTER
    reach: ClassVar[int] = 1

    @abstractmethod
    def count(self, sites: Sites) -> Indices:
        """(E,) in how many ways it can act at each site; 0 where it cannot. All of them have a flag of `acts_on`."""

    @abstractmethod
    def emit(self, sites: Sites, which: Indices) -> Emission:
        """Carries out, at each site, the way `which` (E,), which is below its count there."""
