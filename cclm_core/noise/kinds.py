"""The kinds of noise, and their catalogue.

At each site, a kind counts the edits that it can make, and makes one of them. Two classes need only data:
`TypingKind` for edits that depend on a symbol and its neighbors, `Confusion` for replacements from a table.
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
from cclm_core.runtime.blocks import find, names


@dataclass(frozen=True, kw_only=True)
class Kind(ABC):
    """One kind of noise.

    Attributes:
        description: what it does, in one sentence.
        acts_on: a bitmask of flags (see `noise.tables`); the first symbol of an edit has at least one of them.
        reach: the maximum number of symbols that an edit replaces, as far as `Sites.reach` limits it.
    """

    description: str
    acts_on: int = LETTER
    reach: int = 1

    @abstractmethod
    def count(self, sites: Sites) -> Indices:
        """(E,) number of edits that this kind can make at each site. Each site has a flag of `acts_on`."""

    @abstractmethod
    def emit(self, sites: Sites, choices: Indices) -> Emission:
        """Makes one edit at each site: the one with the index in `choices` (E,), from 0 to `count` - 1."""


@dataclass(frozen=True, kw_only=True)
class TypingKind(Kind):
    """A kind that depends only on a symbol and its neighbors.

    Attributes:
        output: the output symbols, each with its source relative to the site, or INSERTED. A symbol is the current or
            the next one of the text, a space, or one of the `alternatives`.
        consumes: number of symbols replaced.
        alternatives: name of a table in `SymbolTables`, with one edit for each alternative; None for a single edit.
        condition: returns at which sites (E,) it can act; None for all.
    """

    output: tuple[tuple[Literal["current", "next", "space", "alternative"], int], ...]
    consumes: int = 1
    alternatives: Literal["case", "keys", "letters"] | None = None
    condition: Callable[[Sites], Mask] | None = None

    def count(self, sites: Sites) -> Indices:
        """(E,) number of edits at each site; see `Kind.count`."""
        counts = np.ones(len(sites.symbols), dtype=np.int64)
        if self.alternatives is not None:
            counts = self._table(sites).count(sites.symbols)
        return counts if self.condition is None else counts * self.condition(sites)

    def emit(self, sites: Sites, choices: Indices) -> Emission:
        """Makes one edit at each site; see `Kind.emit`."""
        symbols = tuple(self._symbols(name, sites, choices) for name, _ in self.output)
        return Emission(self.consumes, len(self.output), symbols, tuple(offset for _, offset in self.output))

    def _symbols(self, name: str, sites: Sites, choices: Indices) -> Symbols:
        match name:
            case "current":
                return sites.symbols
            case "next":
                return sites.symbols_after(1)
            case "space":
                return np.full(len(sites.symbols), sites.tables.space, dtype=np.int64)
            case _:
                return self._table(sites).pick(sites.symbols, choices)

    def _table(self, sites: Sites) -> Choices:
        assert self.alternatives is not None
        table: Choices = getattr(sites.tables, self.alternatives)
        return table


@dataclass(frozen=True, kw_only=True)
class Confusion(Kind):
    """Replaces one to four symbols with a replacement from a table. The longest match is used.

    Attributes:
        table: a name in `CONFUSIONS`.
    """

    table: str
    acts_on: int = LETTER | DIGIT | PUNCTUATION
    reach: int = MAX_PATTERN

    def count(self, sites: Sites) -> Indices:
        """(E,) number of edits at each site; see `Kind.count`."""
        return self._match(sites).counts

    def emit(self, sites: Sites, choices: Indices) -> Emission:
        """Makes one edit at each site; see `Kind.emit`."""
        return sites.tables.confusions[self.table].emission(self._match(sites), choices)

    def _match(self, sites: Sites) -> Match:
        return sites.tables.confusions[self.table].longest(sites.symbols, sites.symbols_after, sites.reach)


@dataclass(frozen=True, kw_only=True)
class Misspelling(Kind):
    """Replaces a whole word with one of its listed misspellings."""

    def count(self, sites: Sites) -> Indices:
        """(E,) number of edits at each site; see `Kind.count`."""
        counts = np.zeros(len(sites.positions), dtype=np.int64)
        begins = np.flatnonzero(_begins_word(sites))
        counts[begins] = _listed_words(sites, sites.positions[begins]).counts
        return counts

    def emit(self, sites: Sites, choices: Indices) -> Emission:
        """Makes one edit at each site; see `Kind.emit`."""
        return sites.tables.words.emission(_listed_words(sites, sites.positions), choices)


def _begins_word(sites: Sites) -> Mask:
    """(E,) whether a word starts at each site. An apostrophe between letters does not end a word."""
    scope, previous = sites.scope, sites.positions - 1
    before = scope.flags(previous)
    in_word = (before & APOSTROPHE != 0) & (scope.flags(previous - 1) & LETTER != 0)
    begins: Mask = (before & (LETTER | EXTENDS | LINKS) == 0) & ~in_word
    return begins


def _listed_words(sites: Sites, positions: Indices) -> Match:
    """The listed words that start at `positions` and are editable as a whole."""
    scope = sites.scope

    def continues(at: Indices) -> Mask:
        """Whether the symbols at indices continue the word of the previous symbol."""
        flags = scope.flags(at)
        is_apostrophe = (flags & APOSTROPHE != 0) & (scope.flags(at + 1) & LETTER != 0)
        inside: Mask = (flags & (LETTER | EXTENDS) != 0) | is_apostrophe
        return inside

    def symbol(at: Indices) -> Symbols:
        """The symbols of a word; -1, which matches no listed word, for protected ones."""
        editable = (scope.editable(at) | (scope.flags(at) & APOSTROPHE != 0)) & scope.may_cross(at)
        return np.where(editable, scope.symbols.take(at, mode="clip").astype(np.int64), -1)

    return sites.tables.words.words(positions, scope.symbols.take(positions), symbol, continues)


def _before_another_letter(sites: Sites) -> Mask:
    is_letter = sites.scope.flags(sites.positions + 1) & LETTER != 0
    differs: Mask = (sites.reach >= 2) & is_letter & (sites.symbols != sites.symbols_after(1))
    return differs


def _inside_word(sites: Sites) -> Mask:
    following = sites.positions + 1
    inside: Mask = (sites.scope.flags(following) & LETTER != 0) & sites.scope.may_cross(following)
    return inside & (sites.tables.space != NONE)


def _between_words(sites: Sites) -> Mask:
    before, after = sites.scope.flags(sites.positions - 1), sites.scope.flags(sites.positions + 1)
    between: Mask = (before & (LETTER | DIGIT) != 0) & (after & (LETTER | DIGIT) != 0)
    return between


def _confusion(table: str) -> Confusion:
    return Confusion(description=CONFUSIONS[table].description, table=table)


# The result of a seed depends on the order: append new kinds at the end.
CATALOGUE: dict[str, Kind] = {
    "swap": TypingKind(
        description="Swaps a letter with the next one, if they differ.",
        output=(("next", 1), ("current", 0)),
        consumes=2,
        reach=2,
        condition=_before_another_letter,
    ),
    "drop": TypingKind(description="Removes a letter.", output=()),
    "insert": TypingKind(
        description="Inserts a random letter of the same script and case after a letter.",
        output=(("current", 0), ("alternative", INSERTED)),
        alternatives="letters",
    ),
    "keyboard": TypingKind(
        description="Replaces a letter with one from an adjacent key of the recipe's keyboard, in the same case.",
        output=(("alternative", 0),),
        alternatives="keys",
    ),
    "duplicate": TypingKind(description="Writes a letter twice.", output=(("current", 0), ("current", INSERTED))),
    "case": TypingKind(
        description="Changes a letter from lowercase to uppercase or back.",
        output=(("alternative", 0),),
        alternatives="case",
    ),
    "missing_space": TypingKind(
        description="Removes a space between two words or numbers.",
        output=(),
        acts_on=SPACE,
        condition=_between_words,
    ),
    "extra_space": TypingKind(
        description="Inserts a space between two letters of a word.",
        output=(("current", 0), ("space", INSERTED)),
        condition=_inside_word,
    ),
    "homoglyph": _confusion("homoglyph"),
    "ocr": _confusion("ocr"),
    "lookalike": _confusion("lookalike"),
    "phonetic": _confusion("phonetic"),
    "misspelling": Misspelling(
        description="Replaces a word with one of its listed misspellings, common ones more often than rare ones."
    ),
}

TYPING = ("swap", "drop", "insert", "keyboard", "duplicate", "case")
"""The default kinds of a recipe: typing errors."""


def kind_names() -> list[str]:
    """The names of all kinds: those of the library, then your own, sorted. Edits refer to kinds by their index here."""
    return [*CATALOGUE, *names("noise")]


def kind_named(name: str) -> Kind | None:
    """The kind of noise with this name, of the library or your own; None for an unknown name.

    Raises:
        ConfigError: the file that defines your own kind cannot be run.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    own = find("noise", name)
    return None if own is None else own.member
