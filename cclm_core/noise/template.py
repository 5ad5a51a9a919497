"""Kinds that a symbol and its neighbours decide, written as data: a condition, and what is put in place.

So each of them is a few words, and one loop can carry all of them out (see `noise.kernel`).
"""

from enum import IntEnum
from typing import ClassVar, NamedTuple

import numpy as np

from cclm_core.noise.kind import Emission, Indices, Kind, Mask, Sites, Symbols
from cclm_core.noise.tables import DIGIT, LETTER, NONE, Choices, SymbolTables

WORD = LETTER | DIGIT


class When(IntEnum):
    """Where a template may act, beside what `acts_on` and its choices say."""

    ALWAYS = 0
    BEFORE_ANOTHER = 1  # the next symbol is another letter, and may be edited together with this one
    INSIDE = 2  # a letter comes next, and there is a symbol for a space
    BETWEEN = 3  # letters or digits stand on both sides


class What(IntEnum):
    """A symbol that a template puts."""

    HERE = 0
    AFTER = 1
    CHOICE = 2
    SPACE = 3


class Put(NamedTuple):
    """A symbol that is put, and for which symbol of the input it stands, counted from the edit; or INSERTED."""

    what: What
    offset: int


class Template(Kind):
    """A kind as data.

    Attributes:
        when: where it may act.
        choices: which table of `SymbolTables` gives the alternatives, in as many ways as there are; None: one way.
        consumes: how many symbols it replaces.
        puts: what it puts in place.
    """

    when: ClassVar[When] = When.ALWAYS
    choices: ClassVar[str | None] = None
    consumes: ClassVar[int] = 1
    puts: ClassVar[tuple[Put, ...]] = ()

    def table(self, tables: SymbolTables) -> Choices | None:
        """Its table of alternatives, if it has one."""
        found: Choices | None = getattr(tables, self.choices) if self.choices else None
        return found

    def count(self, sites: Sites) -> Indices:
        table = self.table(sites.tables)
        counts = np.ones(len(sites.here), dtype=np.int64) if table is None else table.count(sites.here)
        return counts if self.when == When.ALWAYS else counts * self._may(sites)

    def emit(self, sites: Sites, which: Indices) -> Emission:
        symbols = tuple(self._symbols(put.what, sites, which) for put in self.puts)
        return Emission(self.consumes, len(self.puts), symbols, tuple(put.offset for put in self.puts))

    def _may(self, sites: Sites) -> Mask:
        scope, behind = sites.scope, sites.positions + 1
        after = scope.flags(behind)
        may: Mask
        if self.when == When.BEFORE_ANOTHER:
            may = (sites.reach >= 2) & (after & LETTER != 0) & (sites.here != sites.symbols_after(1))
        elif self.when == When.INSIDE:
            may = (after & LETTER != 0) & scope.joined(behind) & (sites.tables.space != NONE)
        else:
            may = (after & WORD != 0) & (scope.flags(sites.positions - 1) & WORD != 0)
        return may

    def _symbols(self, what: What, sites: Sites, which: Indices) -> Symbols:
        if what == What.HERE:
            return sites.here
        if what == What.AFTER:
            return sites.symbols_after(1)
        if what == What.SPACE:
            return np.full(len(sites.here), sites.tables.space, dtype=np.int64)
        table = self.table(sites.tables)
        assert table is not None
        return table.pick(sites.here, which)
