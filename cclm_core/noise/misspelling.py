"""A spelling that people really write: `their` → `thier`."""

from typing import ClassVar

import numpy as np

from cclm_core.noise.kind import Emission, Indices, Kind, Mask, Sites, Symbols
from cclm_core.noise.tables import APOSTROPHE, EXTENDS, LETTER, LINKS
from cclm_core.noise.words import WordMatch


class Misspelling(Kind):
    """Replaces a whole word by one of its listed misspellings, the common ones more often than the rare."""

    acts_on: ClassVar[int] = LETTER

    def count(self, sites: Sites) -> Indices:
        counts = np.zeros(len(sites.positions), dtype=np.int64)
        begins = np.flatnonzero(_begins(sites))
        counts[begins] = _match(sites, sites.positions[begins]).counts
        return counts

    def emit(self, sites: Sites, which: Indices) -> Emission:
        match = _match(sites, sites.positions)
        words = sites.tables.words
        chosen, replacements = words.numbers.take(match.starts + which), words.replacements
        return Emission(match.consumes, replacements.lengths.take(chosen), *replacements.columns(chosen))


def _begins(sites: Sites) -> Mask:
    """At which sites a word begins."""
    scope, behind = sites.scope, sites.positions - 1
    before = scope.flags(behind)
    inside = (before & APOSTROPHE != 0) & (scope.flags(behind - 1) & LETTER != 0)
    begins: Mask = (before & (LETTER | EXTENDS | LINKS) == 0) & ~inside
    return begins


def _match(sites: Sites, positions: Indices) -> WordMatch:
    """The listed words at `positions`, where the whole word may be edited."""
    scope = sites.scope

    def goes_on(at: Indices) -> Mask:
        flags = scope.flags(at)
        apostrophe = (flags & APOSTROPHE != 0) & (scope.flags(at + 1) & LETTER != 0)
        inside: Mask = (flags & (LETTER | EXTENDS) != 0) | apostrophe
        return inside

    def symbol(at: Indices) -> Symbols:
        """The symbols that belong to a word, or -1, which no listed word has, where one must stay as it is."""
        editable = (scope.free(at) | (scope.flags(at) & APOSTROPHE != 0)) & scope.joined(at)
        return np.where(editable, scope.symbols.take(at, mode="clip").astype(np.int64), -1)

    return sites.tables.words.match(positions, scope.symbols.take(positions), symbol, goes_on)
