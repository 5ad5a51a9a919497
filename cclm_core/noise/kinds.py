"""The kinds of noise: what a kind is, and the catalogue of all of them.

A kind counts the ways in which it can edit a text at each site, and carries out one of them. Kinds that depend only on
a letter and its neighbors are data (`TypingKind`), and so are kinds that look up replacements (`Confusion`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cclm_core.noise.confusions import CONFUSIONS, MAX_PATTERN
from cclm_core.noise.edits import INSERTED, Emission, Indices, Mask, Symbols
from cclm_core.noise.lookup import Match
from cclm_core.noise.scope import Sites
from cclm_core.noise.tables import APOSTROPHE, DIGIT, EXTENDS, LETTER, LINKS, NONE, PUNCTUATION, SPACE, Choices


@dataclass(frozen=True, kw_only=True)
class Kind(ABC):
    """One kind of noise.

    Attributes:
        description: what it does, in one sentence.
        acts_on: flags (see `noise.tables`), one of which the symbol must have at which an edit starts.
        reach: the most symbols that an edit replaces, where `Sites.reach` limits it.
    """

    description: str
    acts_on: int = LETTER
    reach: int = 1

    @abstractmethod
    def count(self, sites: Sites) -> Indices:
        """(E,) in how many ways it can act at each site; 0 where it cannot. Each site has a flag of `acts_on`."""

    @abstractmethod
    def emit(self, sites: Sites, which: Indices) -> Emission:
        """Carries out, at each site, the way `which` (E,), which is below its count there."""


@dataclass(frozen=True, kw_only=True)
class TypingKind(Kind):
    """A kind that depends only on a symbol and its neighbors.

    Attributes:
        puts: the symbols that it puts in place: the one at the site, the next one, a space, or one of the `choices`;
            and the symbol of the text to which each corresponds, counted from the site, or INSERTED.
        consumes: how many symbols it replaces.
        choices: the table of `SymbolTables` with the alternatives, one way for each; None: there is one way.
        condition: at which sites (E,) it can act; None: at all of them.
    """

    puts: tuple[tuple[Literal["here", "next", "space", "choice"], int], ...]
    consumes: int = 1
    choices: Literal["case", "keys", "letters"] | None = None
    condition: Callable[[Sites], Mask] | None = None

    def count(self, sites: Sites) -> Indices:
        """See `Kind.count`."""
        counts = np.ones(len(sites.here), dtype=np.int64)
        if self.choices is not None:
            counts = self._table(sites).count(sites.here)
        return counts if self.condition is None else counts * self.condition(sites)

    def emit(self, sites: Sites, which: Indices) -> Emission:
        """See `Kind.emit`."""
        symbols = tuple(self._symbols(name, sites, which) for name, _ in self.puts)
        return Emission(self.consumes, len(self.puts), symbols, tuple(offset for _, offset in self.puts))

    def _symbols(self, name: str, sites: Sites, which: Indices) -> Symbols:
        match name:
            case "here":
                return sites.here
            case "next":
                return sites.symbols_after(1)
            case "space":
                return np.full(len(sites.here), sites.tables.space, dtype=np.int64)
            case _:
                return self._table(sites).pick(sites.here, which)

    def _table(self, sites: Sites) -> Choices:
        assert self.choices is not None
        table: Choices = getattr(sites.tables, self.choices)
        return table


@dataclass(frozen=True, kw_only=True)
class Confusion(Kind):
    """Replaces one to four symbols by what a table lists for them; the longest match counts.

    Attributes:
        table: a name in `CONFUSIONS`.
    """

    table: str
    acts_on: int = LETTER | DIGIT | PUNCTUATION
    reach: int = MAX_PATTERN

    def count(self, sites: Sites) -> Indices:
        """See `Kind.count`."""
        return self._match(sites).counts

    def emit(self, sites: Sites, which: Indices) -> Emission:
        """See `Kind.emit`."""
        return sites.tables.confusions[self.table].emission(self._match(sites), which)

    def _match(self, sites: Sites) -> Match:
        return sites.tables.confusions[self.table].longest(sites.here, sites.symbols_after, sites.reach)


@dataclass(frozen=True, kw_only=True)
class Misspelling(Kind):
    """Replaces a whole word by one of its listed misspellings."""

    def count(self, sites: Sites) -> Indices:
        """See `Kind.count`."""
        counts = np.zeros(len(sites.positions), dtype=np.int64)
        begins = np.flatnonzero(_begins_word(sites))
        counts[begins] = _listed_words(sites, sites.positions[begins]).counts
        return counts

    def emit(self, sites: Sites, which: Indices) -> Emission:
        """See `Kind.emit`."""
        return sites.tables.words.emission(_listed_words(sites, sites.positions), which)


def _begins_word(sites: Sites) -> Mask:
    scope, previous = sites.scope, sites.positions - 1
    before = scope.flags(previous)
    in_word = (before & APOSTROPHE != 0) & (scope.flags(previous - 1) & LETTER != 0)
    begins: Mask = (before & (LETTER | EXTENDS | LINKS) == 0) & ~in_word
    return begins


def _listed_words(sites: Sites, positions: Indices) -> Match:
    """The listed words that start at `positions`, where the whole word may be edited."""
    scope = sites.scope

    def continues(at: Indices) -> Mask:
        flags = scope.flags(at)
        is_apostrophe = (flags & APOSTROPHE != 0) & (scope.flags(at + 1) & LETTER != 0)
        inside: Mask = (flags & (LETTER | EXTENDS) != 0) | is_apostrophe
        return inside

    def symbol(at: Indices) -> Symbols:
        """The symbols of a word, or -1, which no listed word has, where one must stay as it is."""
        editable = (scope.free(at) | (scope.flags(at) & APOSTROPHE != 0)) & scope.joined(at)
        return np.where(editable, scope.symbols.take(at, mode="clip").astype(np.int64), -1)

    return sites.tables.words.words(positions, scope.symbols.take(positions), symbol, continues)


def _before_another_letter(sites: Sites) -> Mask:
    is_letter = sites.scope.flags(sites.positions + 1) & LETTER != 0
    differs: Mask = (sites.reach >= 2) & is_letter & (sites.here != sites.symbols_after(1))
    return differs


def _inside_word(sites: Sites) -> Mask:
    following = sites.positions + 1
    inside: Mask = (sites.scope.flags(following) & LETTER != 0) & sites.scope.joined(following)
    return inside & (sites.tables.space != NONE)


def _between_words(sites: Sites) -> Mask:
    before, after = sites.scope.flags(sites.positions - 1), sites.scope.flags(sites.positions + 1)
    between: Mask = (before & (LETTER | DIGIT) != 0) & (after & (LETTER | DIGIT) != 0)
    return between


def _confusion(table: str) -> Confusion:
    return Confusion(description=CONFUSIONS[table].description, table=table)


# The order is part of what a seed means: append new kinds.
CATALOGUE: dict[str, Kind] = {
    "swap": TypingKind(
        description="Swaps a letter with the next one, if they differ.",
        puts=(("next", 1), ("here", 0)),
        consumes=2,
        reach=2,
        condition=_before_another_letter,
    ),
    "drop": TypingKind(description="Removes a letter.", puts=()),
    "insert": TypingKind(
        description="Inserts a random letter of the same script and case after a letter.",
        puts=(("here", 0), ("choice", INSERTED)),
        choices="letters",
    ),
    "keyboard": TypingKind(
        description="Replaces a letter by one from a neighboring key of the recipe's keyboard, in the same case.",
        puts=(("choice", 0),),
        choices="keys",
    ),
    "duplicate": TypingKind(description="Writes a letter twice.", puts=(("here", 0), ("here", INSERTED))),
    "case": TypingKind(
        description="Changes a letter from lower case to upper case or back.",
        puts=(("choice", 0),),
        choices="case",
    ),
    "missing_space": TypingKind(
        description="Removes a space between two words or numbers.",
        puts=(),
        acts_on=SPACE,
        condition=_between_words,
    ),
    "extra_space": TypingKind(
        description="Inserts a space between two letters of a word.",
        puts=(("here", 0), ("space", INSERTED)),
        condition=_inside_word,
    ),
    "homoglyph": _confusion("homoglyph"),
    "ocr": _confusion("ocr"),
    "lookalike": _confusion("lookalike"),
    "phonetic": _confusion("phonetic"),
    "misspelling": Misspelling(
        description="Replaces a word by one of its listed misspellings, common ones more often than rare ones."
    ),
}

TYPING = ("swap", "drop", "insert", "keyboard", "duplicate", "case")
"""The typing errors that a recipe makes by default."""
