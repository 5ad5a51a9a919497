"""Carrying a recipe out on an array of symbols, with the map of its edits."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.noise.catalogue import CATALOGUE
from cclm_core.noise.draws import AGAIN, bits, chances, hits, uniform
from cclm_core.noise.edits import Edits, Noised, write_edits
from cclm_core.noise.kernel import WORTH_IT, available, run
from cclm_core.noise.kind import Emission, Indices, Kind, Mask, Sites
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.scope import RecipeScope
from cclm_core.noise.tables import SymbolTables
from cclm_core.noise.template import Template
from cclm_core.runtime.errors import ConfigError

_NAMES = list(CATALOGUE)
# Tell draws for different purposes at the same place apart.
_WORD_KEY, _PLACE_KEY = 0x5851F42D4C957F2D, 0x14057B7EF767814F


class _Chosen(NamedTuple):
    """Sites with what is to be done there.

    Attributes:
        sites: E of them.
        kinds: (E,) the index of the kind among the recipe's.
        counts: (E,) in how many ways that kind can act there, at least 1.
        random: (E,) of whose low 32 bits the way is chosen.
    """

    sites: Sites
    kinds: npt.NDArray[np.uint8]
    counts: Indices
    random: npt.NDArray[np.uint64]


def apply(
    recipe: NoiseRecipe,
    symbols: npt.NDArray[Any],
    tables: SymbolTables,
    generator: np.random.Generator,
    protected: Mask | None = None,
    starts: Indices | None = None,
    first: int = 0,
) -> Noised:
    """Noises an array of symbols, with the map of its edits.

    What an edit consumed (the second letter of a swap) starts no edit of its own.

    Args:
        recipe: what to do.
        symbols: (N,) integers; not changed.
        tables: what each symbol may become.
        generator: where all randomness comes from: one number is drawn, the key of all that follows.
        protected: (N,) true where a symbol must stay as it is.
        starts: rising indices; no edit reaches across one. Many windows one after the other are noised at the
            cost of one call by giving where they start; `edits.move_starts` tells where they start afterwards.
        first: which symbol of a longer text `symbols` begins with. A text that is cut at some of its `starts`,
            each behind an END or another symbol without flags, and noised part by part, each with `first` and with
            a generator in the same state, comes out as in one call.

    Raises:
        ConfigError: the recipe names the kind `misspelling`, but the tables hold no misspellings.
    """
    check(recipe, tables)
    key = int(generator.integers(2**63))
    scope = RecipeScope(recipe, symbols, tables, protected, starts)
    kinds = [CATALOGUE[name] for name in recipe.kinds]
    weights = list(recipe.kinds.values())
    in_catalogue = np.array([_NAMES.index(name) for name in recipe.kinds])
    if recipe.unit == "character" and len(symbols) >= WORTH_IT and available():
        templates = [kind for kind in kinds if isinstance(kind, Template)]
        if len(templates) == len(kinds):
            noised = run(scope, templates, weights, hits(key, recipe.rate, first, len(symbols)) - first, key, first)
            return noised._replace(edits=noised.edits._replace(kinds=in_catalogue[noised.edits.kinds]))
    if recipe.unit == "word":
        chosen = _choose_in_words(scope, kinds, weights, key, first)
    else:
        chosen = _choose(scope, kinds, weights, key, first)
    edits, emissions = _emit(kinds, chosen)
    noised = write_edits(symbols, edits, emissions)
    return noised._replace(edits=edits._replace(kinds=in_catalogue[edits.kinds]))


def eligible(
    recipe: NoiseRecipe,
    symbols: npt.NDArray[Any],
    tables: SymbolTables,
    protected: Mask | None = None,
    starts: Indices | None = None,
) -> Mask:
    """(N,) what the rate of `apply` with the same arguments is a share of.

    True where an edit could start or, by words, at the first letter of every word that could get one.
    """
    scope = RecipeScope(recipe, symbols, tables, protected, starts)
    kinds = [CATALOGUE[name] for name in recipe.kinds]
    mask = np.zeros(len(symbols), dtype=bool)
    if recipe.unit == "word":
        begins, ends = scope.words()
        sites, bounds = _word_sites(scope, kinds, begins, ends)
        mask[begins[np.diff(np.append(0, np.cumsum(_able(kinds, sites)))[bounds]) > 0]] = True
        return mask
    sites = scope.sites(np.arange(len(symbols)), *_reach(kinds))
    mask[sites.positions[_able(kinds, sites)]] = True
    return mask


class EveryEdit(NamedTuple):
    """One edit that could be made: symbols `start` to `end` become `symbols`, by the kind of that name."""

    start: int
    end: int
    symbols: list[int]
    kind: str


def every_edit(
    recipe: NoiseRecipe, symbols: npt.NDArray[Any], tables: SymbolTables, protected: Mask | None = None
) -> Iterator[EveryEdit]:
    """Every edit that a recipe's kinds could make, in each of its ways, kind by kind; the rate means nothing here.

    Raises:
        ConfigError: see `apply`.
    """
    check(recipe, tables)
    scope = RecipeScope(recipe, symbols, tables, protected)
    for name in recipe.kinds:
        kind = CATALOGUE[name]
        sites = scope.sites(np.arange(len(symbols)), kind.acts_on, kind.reach)
        counts = _count(kind, sites)
        each = np.repeat(np.arange(len(counts)), counts)
        ways = np.arange(len(each)) - np.repeat(np.cumsum(counts) - counts, counts)
        emission = kind.emit(sites.take(each), ways)
        put = np.stack([*emission.symbols, np.zeros(len(each), dtype=np.int64)], axis=1).tolist()
        lengths = np.broadcast_to(emission.lengths, len(each)).tolist()
        ends = (sites.positions[each] + emission.consumes).tolist()
        done: set[tuple[int, tuple[int, ...]]] = set()  # a likely misspelling stands in its table several times
        for start, end, row, length in zip(sites.positions[each].tolist(), ends, put, lengths, strict=True):
            if (start, tuple(row[:length])) not in done:
                done.add((start, tuple(row[:length])))
                yield EveryEdit(start, end, row[:length], name)


def num_chances(may: Mask, edits: Edits) -> int:
    """Of how many places the edits of `apply` are a share: of those in `may` (see `eligible`) that none consumed."""
    totals = np.append(0, np.cumsum(may))
    ends = np.minimum(edits.positions + edits.consumes, len(may))
    return int(may.sum() - (totals[ends] - totals[np.minimum(edits.positions + 1, len(may))]).sum())


def check(recipe: NoiseRecipe, tables: SymbolTables) -> None:
    """Refuses a recipe that the tables cannot carry out; see `apply`."""
    if "misspelling" in recipe.kinds and not len(tables.words):
        raise ConfigError(
            "the kind misspelling needs a list of misspellings, got none that this vocabulary can spell; "
            "give a list, or leave the kind out"
        )


def _choose(scope: RecipeScope, kinds: list[Kind], weights: list[float], key: int, first: int) -> _Chosen:
    """A kind at each place that was hit and where one can act.

    A kind is drawn by the weights alone and, where it cannot act, again among those that can: their shares are the
    same as if the able ones had been known before, but seldom has more than one kind to be asked.
    """
    positions = hits(key, scope.recipe.rate, first, len(scope.symbols)) - first
    sites = scope.sites(positions, *_reach(kinds))
    random = bits(key, sites.positions + first)
    always = [np.ones(1, dtype=bool)] * len(kinds)
    chosen = _weighed(always, weights, uniform(random))
    counts = np.zeros(len(chosen), dtype=np.int64)
    for index, kind in enumerate(kinds):
        own = np.flatnonzero(chosen == index)
        counts[own] = _count(kind, sites.take(own))
    lost = np.flatnonzero(counts == 0)
    if len(lost):
        every = [_count(kind, sites.take(lost)) for kind in kinds]
        again = chances(key ^ int(AGAIN), sites.positions[lost] + first)
        chosen[lost] = _weighed([one > 0 for one in every], weights, again)
        counts[lost] = _of_kind(every, chosen[lost])
        found = np.flatnonzero(counts)
        sites, chosen, counts, random = sites.take(found), chosen.take(found), counts.take(found), random.take(found)
    return _Chosen(sites, chosen, counts, random)


def _choose_in_words(scope: RecipeScope, kinds: list[Kind], weights: list[float], key: int, first: int) -> _Chosen:
    """A kind, a place and a way in each word that was hit and in which a kind can act."""
    begins, ends = scope.words()
    hit = chances(key ^ _WORD_KEY, begins + first) < scope.recipe.rate
    begins, ends = begins[hit], ends[hit]
    sites, bounds = _word_sites(scope, kinds, begins, ends)
    counts = [_count(kind, sites) for kind in kinds]
    # For each kind, how many places of all words up to a word it can act at.
    able = [np.append(0, np.cumsum(one > 0)) for one in counts]
    in_word = [np.diff(one[bounds]) for one in able]
    random = bits(key, begins + first)
    kind = _weighed([one > 0 for one in in_word], weights, uniform(random))
    found = np.flatnonzero(kind < len(kinds))
    kind = kind.take(found)
    drawn = chances(key ^ _PLACE_KEY, begins[found] + first)
    place = np.zeros(len(found), dtype=np.int64)
    for index, one in enumerate(able):
        some = np.flatnonzero(kind == index)
        word = found[some]
        wanted = one[bounds[word]] + (drawn[some] * in_word[index][word]).astype(np.int64)
        place[some] = np.searchsorted(one, wanted, side="right") - 1
    return _Chosen(sites.take(place), kind, _of_kind([one.take(place) for one in counts], kind), random.take(found))


def _word_sites(scope: RecipeScope, kinds: list[Kind], begins: Indices, ends: Indices) -> tuple[Sites, Indices]:
    """The sites in words and right behind each; and where those of each word begin among them, and the last end."""
    lengths = np.minimum(ends + 1, len(scope.symbols)) - begins
    offsets = np.cumsum(lengths) - lengths
    words = np.repeat(np.arange(len(begins)), lengths)
    positions = begins[words] + np.arange(int(lengths.sum())) - offsets[words]
    sites = scope.sites(positions, *_reach(kinds))
    bounds = np.append(np.searchsorted(sites.positions, begins), len(sites.positions))
    return sites, bounds


def _reach(kinds: list[Kind]) -> tuple[int, int]:
    acts_on = 0
    for kind in kinds:
        acts_on |= kind.acts_on
    return acts_on, max(kind.reach for kind in kinds)


def _count(kind: Kind, sites: Sites) -> Indices:
    """(E,) in how many ways a kind can act at each site."""
    counts: Indices = kind.count(sites) * (sites.flags & kind.acts_on != 0)
    return counts


def _able(kinds: list[Kind], sites: Sites) -> Mask:
    """(E,) whether any kind can act at each site."""
    able: Mask = np.any([_count(kind, sites) > 0 for kind in kinds], axis=0)
    return able


def _of_kind(counts: list[Indices], kinds: npt.NDArray[np.uint8]) -> Indices:
    """(E,) of each site the count of its kind; 0 where it has none."""
    found = np.zeros(len(kinds), dtype=np.int64)
    for index, one in enumerate(counts):
        np.copyto(found, one, where=kinds == index)
    return found


def _weighed(able: list[Mask], weights: list[float], random: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(E,) of the kinds that are able the one in whose share of the weights a uniform draw falls; K where none is.

    Args:
        able: for each kind (E,), or (1,) where it is the same at all sites.
    """
    bounds = []
    total = np.zeros(1)
    for mask, weight in zip(able, weights, strict=True):
        total = total + mask * weight
        bounds.append(total)
    wanted = random * total
    chosen = np.zeros(len(random), dtype=np.uint8)
    for bound in bounds:
        chosen += wanted >= bound
    return chosen


def _emit(kinds: list[Kind], chosen: _Chosen) -> tuple[Edits, list[tuple[Indices, Emission]]]:
    """The edits that can stand beside each other, and for each kind which of them are its own and what they put."""
    positions = chosen.sites.positions
    emissions = []
    consumes, emits = np.zeros((2, len(positions)), dtype=np.int64)
    for index, kind in enumerate(kinds):
        own = np.flatnonzero(chosen.kinds == index)
        low = chosen.random.take(own) & np.uint64(0xFFFFFFFF)
        ways = ((low * chosen.counts.take(own).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
        emission = kind.emit(chosen.sites.take(own), ways)
        consumes[own], emits[own] = emission.consumes, emission.lengths
        emissions.append((own, emission))
    alive = ~_consumed(positions, consumes)
    edits = Edits(positions, chosen.kinds.astype(np.int64), consumes, emits)
    if alive.all():
        return edits, emissions
    number = np.cumsum(alive) - 1  # of an edit among those that are left
    kept = np.flatnonzero(alive)
    left = [(own, np.flatnonzero(alive.take(own)), emission) for own, emission in emissions]
    return Edits(*(part.take(kept) for part in edits)), [
        (number.take(own.take(some)), emission if len(some) == len(own) else emission.take(some))
        for own, some, emission in left
    ]


def _consumed(positions: Indices, consumes: Indices) -> Mask:
    """(E,) which edits start at a symbol that an edit before them consumed, read from left to right."""
    consumed = np.zeros(len(positions), dtype=bool)
    ends = positions + consumes
    # Only edits that another might block have to be read one after the other.
    crowded = np.flatnonzero(positions[1:] < np.maximum.accumulate(ends)[:-1]) + 1
    if len(crowded):
        previous, end = -1, -1
        for index in crowded.tolist():
            if index != previous + 1:
                end = int(ends[index - 1])
            if positions[index] < end:
                consumed[index] = True
            else:
                end = int(ends[index])
            previous = index
    return consumed
