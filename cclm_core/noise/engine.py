"""Applies a recipe to an array of symbols, and records the map of its edits."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.noise.draws import REDRAW, bits, chances, hits, uniform
from cclm_core.noise.edits import Edits, Emission, Indices, Mask, Noised, write_edits
from cclm_core.noise.kinds import CATALOGUE, Kind
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.scope import Scope, Sites
from cclm_core.noise.tables import SymbolTables
from cclm_core.runtime.errors import ConfigError

_NAMES = list(CATALOGUE)
# XORed into a key, these separate draws for different purposes at the same position.
_WORD_KEY, _PLACE_KEY = 0x5851F42D4C957F2D, 0x14057B7EF767814F


class _Plan(NamedTuple):
    """Sites with what to do there.

    Attributes:
        sites: E sites.
        kinds: (E,) the index of the kind among the recipe's.
        counts: (E,) in how many ways this kind can act there, at least 1.
        random: (E,) 64 random bits, whose lower half selects the way.
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
    """Noises an array of symbols, and returns it with the map of its edits.

    What an edit consumed (the second letter of a swap) starts no edit of its own.

    Args:
        recipe: what to do.
        symbols: (N,) integers; not changed.
        tables: what each symbol may become.
        generator: the source of all randomness: one number is drawn from it, the key of all other draws.
        protected: (N,) true where a symbol must stay as it is.
        starts: rising indices; no edit reaches across one. Concatenate many windows and pass their starts to noise
            them at the cost of one call; `edits.move_starts` returns their starts after noise.
        first: the index of the first symbol in a longer text. A text may be cut at some of its `starts`, each after an
            END or another symbol without flags: noising the parts, each with its `first` and a generator in the same
            state, gives the same result as one call.

    Raises:
        ConfigError: the recipe contains the kind `misspelling`, but the tables have no misspellings.
    """
    check(recipe, tables)
    key = int(generator.integers(2**63))
    kinds, weights = _kinds(recipe), list(recipe.kinds.values())
    plan_edits = _plan_words if recipe.unit == "word" else _plan_characters
    plan = plan_edits(_scope(recipe, symbols, tables, protected, starts), kinds, weights, recipe.rate, key, first)
    edits, emissions = _emit(kinds, plan)
    noised = write_edits(symbols, edits, emissions)
    in_catalogue = np.array([_NAMES.index(name) for name in recipe.kinds])
    return noised._replace(edits=edits._replace(kinds=in_catalogue[edits.kinds]))


def eligible(
    recipe: NoiseRecipe,
    symbols: npt.NDArray[Any],
    tables: SymbolTables,
    protected: Mask | None = None,
    starts: Indices | None = None,
) -> Mask:
    """(N,) the places of which `apply`, with the same arguments, edits the share `rate`.

    True where an edit could start or, if the unit is `word`, at the first letter of every word that could be edited.
    """
    scope = _scope(recipe, symbols, tables, protected, starts)
    kinds = _kinds(recipe)
    mask = np.zeros(len(symbols), dtype=bool)
    if recipe.unit == "word":
        begins, ends = scope.words()
        sites, bounds = _word_sites(scope, kinds, begins, ends)
        mask[begins[np.diff(np.append(0, np.cumsum(_able(kinds, sites)))[bounds]) > 0]] = True
        return mask
    sites = scope.sites(np.arange(len(symbols)), *_reach(kinds))
    mask[sites.positions[_able(kinds, sites)]] = True
    return mask


class PossibleEdit(NamedTuple):
    """One edit that could be made: symbols `start` to `end` become `symbols`, by the kind with this name."""

    start: int
    end: int
    symbols: list[int]
    kind: str


def possible_edits(
    recipe: NoiseRecipe, symbols: npt.NDArray[Any], tables: SymbolTables, protected: Mask | None = None
) -> Iterator[PossibleEdit]:
    """Every edit that the kinds of a recipe could make, in each of its ways, kind by kind; the rate is not used.

    Raises:
        ConfigError: see `apply`.
    """
    check(recipe, tables)
    scope = _scope(recipe, symbols, tables, protected, None)
    for name in recipe.kinds:
        kind = CATALOGUE[name]
        sites = scope.sites(np.arange(len(symbols)), kind.acts_on, kind.reach)
        counts = _count(kind, sites)
        each = np.repeat(np.arange(len(counts)), counts)
        ways = np.arange(len(each)) - np.repeat(np.cumsum(counts) - counts, counts)
        emission = kind.emit(sites.take(each), ways)
        put = np.stack([*emission.symbols, np.zeros(len(each), dtype=np.int64)], axis=1).tolist()
        lengths = np.broadcast_to(emission.lengths, len(each)).tolist()
        starts, ends = sites.positions[each], sites.positions[each] + emission.consumes
        seen: set[tuple[int, tuple[int, ...]]] = set()  # a frequent misspelling is several ways
        for start, end, row, length in zip(starts.tolist(), ends.tolist(), put, lengths, strict=True):
            if (start, tuple(row[:length])) not in seen:
                seen.add((start, tuple(row[:length])))
                yield PossibleEdit(start, end, row[:length], name)


def num_chances(may: Mask, edits: Edits) -> int:
    """The number of places of which the edits of `apply` are a share: those in `may` (see `eligible`) that no edit
    consumed."""
    totals = np.append(0, np.cumsum(may))
    ends = np.minimum(edits.positions + edits.consumes, len(may))
    return int(may.sum() - (totals[ends] - totals[np.minimum(edits.positions + 1, len(may))]).sum())


def check(recipe: NoiseRecipe, tables: SymbolTables) -> None:
    """Rejects a recipe that cannot be applied with these tables; see `apply`."""
    if "misspelling" in recipe.kinds and not len(tables.words):
        raise ConfigError(
            "the kind misspelling needs a list of misspellings, got none with words of this vocabulary; "
            "pass a list, or remove the kind"
        )


def _scope(
    recipe: NoiseRecipe,
    symbols: npt.NDArray[Any],
    tables: SymbolTables,
    protected: Mask | None,
    starts: Indices | None,
) -> Scope:
    return Scope(
        symbols,
        tables,
        protect_first=recipe.protect_first,
        protect_last=recipe.protect_last,
        min_word_length=recipe.min_word_length,
        protected_characters=recipe.protected_characters,
        protected=protected,
        starts=starts,
    )


def _kinds(recipe: NoiseRecipe) -> list[Kind]:
    return [CATALOGUE[name] for name in recipe.kinds]


def _plan_characters(scope: Scope, kinds: list[Kind], weights: list[float], rate: float, key: int, first: int) -> _Plan:
    """A kind at each position that was hit and where one can act.

    A kind is drawn by the weights alone and, where it cannot act, again among those that can: the shares are the same
    as if all kinds had been asked first, but usually only one has to be asked.
    """
    positions = hits(key, rate, first, len(scope.symbols)) - first
    sites = scope.sites(positions, *_reach(kinds))
    random = bits(key, sites.positions + first)
    all_able = [np.ones(1, dtype=bool)] * len(kinds)
    drawn = _draw(all_able, weights, uniform(random))
    counts = np.zeros(len(drawn), dtype=np.int64)
    for index, kind in enumerate(kinds):
        own = np.flatnonzero(drawn == index)
        counts[own] = _count(kind, sites.take(own))
    unable = np.flatnonzero(counts == 0)
    if len(unable):
        by_kind = [_count(kind, sites.take(unable)) for kind in kinds]
        again = chances(key ^ int(REDRAW), sites.positions[unable] + first)
        drawn[unable] = _draw([kind_counts > 0 for kind_counts in by_kind], weights, again)
        counts[unable] = _of_kind(by_kind, drawn[unable])
        able = np.flatnonzero(counts)
        sites, drawn, counts, random = sites.take(able), drawn.take(able), counts.take(able), random.take(able)
    return _Plan(sites, drawn, counts, random)


def _plan_words(scope: Scope, kinds: list[Kind], weights: list[float], rate: float, key: int, first: int) -> _Plan:
    """A kind, a place and a way in each word that was hit and in which a kind can act."""
    begins, ends = scope.words()
    is_hit = chances(key ^ _WORD_KEY, begins + first) < rate
    begins, ends = begins[is_hit], ends[is_hit]
    sites, bounds = _word_sites(scope, kinds, begins, ends)
    counts = [_count(kind, sites) for kind in kinds]
    # For each kind, the number of sites before each site at which it can act, and the number in each word.
    able_before = [np.append(0, np.cumsum(kind_counts > 0)) for kind_counts in counts]
    in_word = [np.diff(before[bounds]) for before in able_before]
    random = bits(key, begins + first)
    drawn = _draw([able > 0 for able in in_word], weights, uniform(random))
    words = np.flatnonzero(drawn < len(kinds))
    drawn = drawn.take(words)
    place_draws = chances(key ^ _PLACE_KEY, begins[words] + first)
    places = np.zeros(len(words), dtype=np.int64)
    for index, before in enumerate(able_before):
        own = np.flatnonzero(drawn == index)
        word = words[own]
        rank = before[bounds[word]] + (place_draws[own] * in_word[index][word]).astype(np.int64)
        places[own] = np.searchsorted(before, rank, side="right") - 1
    own_counts = _of_kind([kind_counts.take(places) for kind_counts in counts], drawn)
    return _Plan(sites.take(places), drawn, own_counts, random.take(words))


def _word_sites(scope: Scope, kinds: list[Kind], begins: Indices, ends: Indices) -> tuple[Sites, Indices]:
    """The sites in each word and right after it, and (words + 1,) the bounds of each word among them."""
    lengths = np.minimum(ends + 1, len(scope.symbols)) - begins
    offsets = np.cumsum(lengths) - lengths
    words = np.repeat(np.arange(len(begins)), lengths)
    positions = begins[words] + np.arange(int(lengths.sum())) - offsets[words]
    sites = scope.sites(positions, *_reach(kinds))
    bounds = np.append(np.searchsorted(sites.positions, begins), len(sites.positions))
    return sites, bounds


def _reach(kinds: list[Kind]) -> tuple[int, int]:
    """The flags on which any kind acts, and the longest reach."""
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
    """(E,) the count of the kind of each site; 0 where it has none."""
    own = np.zeros(len(kinds), dtype=np.int64)
    for index, kind_counts in enumerate(counts):
        np.copyto(own, kind_counts, where=kinds == index)
    return own


def _draw(able: list[Mask], weights: list[float], random: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(E,) the kind, of those that are able, in whose share of the weights a uniform draw falls; K where none is.

    Args:
        able: for each of K kinds (E,), or (1,) where it is the same at all sites.
        weights: of the kinds.
        random: (E,) uniform draws.
    """
    bounds = []
    total = np.zeros(1)
    for mask, weight in zip(able, weights, strict=True):
        total = total + mask * weight
        bounds.append(total)
    threshold = random * total
    drawn = np.zeros(len(random), dtype=np.uint8)
    for bound in bounds:
        drawn += threshold >= bound
    return drawn


def _emit(kinds: list[Kind], plan: _Plan) -> tuple[Edits, list[tuple[Indices, Emission]]]:
    """The edits that do not overlap, and for each kind the indices of its edits with what they put in place."""
    positions = plan.sites.positions
    emissions = []
    consumes, emits = np.zeros((2, len(positions)), dtype=np.int64)
    for index, kind in enumerate(kinds):
        own = np.flatnonzero(plan.kinds == index)
        low = plan.random.take(own) & np.uint64(0xFFFFFFFF)
        ways = ((low * plan.counts.take(own).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
        emission = kind.emit(plan.sites.take(own), ways)
        consumes[own], emits[own] = emission.consumes, emission.lengths
        emissions.append((own, emission))
    alive = ~_consumed(positions, consumes)
    edits = Edits(positions, plan.kinds.astype(np.int64), consumes, emits)
    if alive.all():
        return edits, emissions
    rank = np.cumsum(alive) - 1  # of an edit among those that are alive
    kept = np.flatnonzero(alive)
    left = [(own, np.flatnonzero(alive.take(own)), emission) for own, emission in emissions]
    return Edits(*(part.take(kept) for part in edits)), [
        (rank.take(own.take(some)), emission if len(some) == len(own) else emission.take(some))
        for own, some, emission in left
    ]


def _consumed(positions: Indices, consumes: Indices) -> Mask:
    """(E,) which edits start at a symbol that a previous edit consumed, read from left to right."""
    consumed = np.zeros(len(positions), dtype=bool)
    ends = positions + consumes
    # Only edits that another one might block have to be read one by one.
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
