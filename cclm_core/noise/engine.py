"""Applies a recipe to an array of symbols, and records the map of its edits."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.noise.draws import REDRAW, bits_at, hits, to_uniform, uniform_at
from cclm_core.noise.edits import Edits, Emission, Indices, Mask, Noised, write_edits
from cclm_core.noise.kinds import Kind, kind_named, kind_names
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.scope import Scope, Sites
from cclm_core.noise.tables import SymbolTables
from cclm_core.runtime.errors import ConfigError

# XORed into a key, these separate draws for different purposes at the same position.
_WORD_KEY, _SITE_KEY = 0x5851F42D4C957F2D, 0x14057B7EF767814F


class _Plan(NamedTuple):
    """The edits to make at E sites.

    Attributes:
        sites: the sites.
        kinds: (E,) index of the kind of noise in the recipe.
        counts: (E,) number of edits that this kind can make at the site, at least 1.
        random: (E,) 64 random bits; the lower half selects the edit.
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

    Edits do not overlap: no edit starts at a symbol that the previous edit consumed, such as the second letter of a
    swap.

    Args:
        recipe: the kinds of noise and their rate.
        symbols: (N,) integers; not changed.
        tables: the replacements of each symbol.
        generator: the source of all randomness. One number is drawn from it, the key of all other draws.
        protected: (N,) true for symbols that must not be edited.
        starts: sorted indices that no edit may cross. To noise many windows in one call, concatenate them and pass
            their starts; `edits.move_starts` returns their starts in the output.
        first: the index of the first symbol if this is a part of a longer text. Noising a text in parts gives the same
            result as one call if each part begins at one of the `starts`, after an END or another symbol without flags,
            and gets its `first` and a generator in the same state.

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
    names = kind_names()
    in_catalogue = np.array([names.index(name) for name in recipe.kinds])
    return noised._replace(edits=edits._replace(kinds=in_catalogue[edits.kinds]))


def eligible(
    recipe: NoiseRecipe,
    symbols: npt.NDArray[Any],
    tables: SymbolTables,
    protected: Mask | None = None,
    starts: Indices | None = None,
) -> Mask:
    """(N,) where `apply`, called with the same arguments, can make an edit: at each with the probability `rate`.

    True where an edit can start or, if the unit is `word`, at the first letter of each word that can be edited.
    """
    scope = _scope(recipe, symbols, tables, protected, starts)
    kinds = _kinds(recipe)
    mask = np.zeros(len(symbols), dtype=bool)
    if recipe.unit == "word":
        begins, ends = scope.words()
        sites, bounds = _word_sites(scope, kinds, begins, ends)
        mask[begins[np.diff(np.append(0, np.cumsum(_can_act(kinds, sites)))[bounds]) > 0]] = True
        return mask
    sites = scope.sites(np.arange(len(symbols)), *_reach(kinds))
    mask[sites.positions[_can_act(kinds, sites)]] = True
    return mask


class PossibleEdit(NamedTuple):
    """One possible edit of the kind named `kind`: the input from `start` to `end` (exclusive) becomes `symbols`."""

    start: int
    end: int
    symbols: list[int]
    kind: str


def possible_edits(
    recipe: NoiseRecipe, symbols: npt.NDArray[Any], tables: SymbolTables, protected: Mask | None = None
) -> Iterator[PossibleEdit]:
    """Yields each edit that the kinds of a recipe can make, kind by kind; the rate is not used.

    Raises:
        ConfigError: see `apply`.
    """
    check(recipe, tables)
    scope = _scope(recipe, symbols, tables, protected, None)
    for name in recipe.kinds:
        kind = _kind(name)
        sites = scope.sites(np.arange(len(symbols)), kind.acts_on, kind.reach)
        counts = _count(kind, sites)
        repeated = np.repeat(np.arange(len(counts)), counts)
        choices = np.arange(len(repeated)) - np.repeat(np.cumsum(counts) - counts, counts)
        emission = kind.emit(sites.take(repeated), choices)
        rows = np.stack([*emission.symbols, np.zeros(len(repeated), dtype=np.int64)], axis=1).tolist()
        lengths = np.broadcast_to(emission.lengths, len(repeated)).tolist()
        starts, ends = sites.positions[repeated], sites.positions[repeated] + emission.consumes
        seen: set[tuple[int, tuple[int, ...]]] = set()  # a misspelling occurs as often as its weight
        for start, end, row, length in zip(starts.tolist(), ends.tolist(), rows, lengths, strict=True):
            if (start, tuple(row[:length])) not in seen:
                seen.add((start, tuple(row[:length])))
                yield PossibleEdit(start, end, row[:length], name)


def num_opportunities(mask: Mask, edits: Edits) -> int:
    """The denominator of the measured rate: the number of positions at which `apply` could have made an edit.

    Args:
        mask: (N,) the eligible positions, see `eligible`; those inside an edit are not counted.
        edits: the edits that `apply` made.
    """
    totals = np.append(0, np.cumsum(mask))
    ends = np.minimum(edits.positions + edits.consumes, len(mask))
    return int(mask.sum() - (totals[ends] - totals[np.minimum(edits.positions + 1, len(mask))]).sum())


def check(recipe: NoiseRecipe, tables: SymbolTables) -> None:
    """Raises a ConfigError if a recipe cannot be applied with these tables; see `apply`."""
    if "misspelling" in recipe.kinds and not len(tables.words):
        raise ConfigError(
            "the kind misspelling needs a list of misspellings, got none with words of this vocabulary; "
            "pass another list or remove the kind"
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
    return [_kind(name) for name in recipe.kinds]


def _kind(name: str) -> Kind:
    kind = kind_named(name)
    assert kind is not None, f"the recipe was validated, but {name} is not registered in this process"
    return kind


def _plan_characters(scope: Scope, kinds: list[Kind], weights: list[float], rate: float, key: int, first: int) -> _Plan:
    """Draws a kind for each hit position at which any kind can act.

    First draws by weight from all kinds; if that kind cannot act, draws again from those that can. The distribution is
    the same as with one draw from those that can act, but usually only one kind has to be counted.
    """
    positions = hits(key, rate, first, len(scope.symbols)) - first
    sites = scope.sites(positions, *_reach(kinds))
    random = bits_at(key, sites.positions + first)
    bounds = np.cumsum(weights)
    drawn = np.searchsorted(bounds, to_uniform(random) * bounds[-1], side="right").astype(np.uint8)
    counts = np.zeros(len(drawn), dtype=np.int64)
    for index in np.bincount(drawn).nonzero()[0].tolist():
        items = (drawn == index).nonzero()[0]
        counts[items] = _count(kinds[index], sites.take(items))
    failed = np.flatnonzero(counts == 0)
    if len(failed):
        by_kind = [_count(kind, sites.take(failed)) for kind in kinds]
        redraws = uniform_at(key ^ int(REDRAW), sites.positions[failed] + first)
        drawn[failed] = _draw([kind_counts > 0 for kind_counts in by_kind], weights, redraws)
        counts[failed] = _of_kind(by_kind, drawn[failed])
        kept = np.flatnonzero(counts)
        sites, drawn, counts, random = sites.take(kept), drawn.take(kept), counts.take(kept), random.take(kept)
    return _Plan(sites, drawn, counts, random)


def _plan_words(scope: Scope, kinds: list[Kind], weights: list[float], rate: float, key: int, first: int) -> _Plan:
    """Draws a kind and a site for each hit word in which any kind can act."""
    begins, ends = scope.words()
    is_hit = uniform_at(key ^ _WORD_KEY, begins + first) < rate
    begins, ends = begins[is_hit], ends[is_hit]
    sites, bounds = _word_sites(scope, kinds, begins, ends)
    counts = [_count(kind, sites) for kind in kinds]
    # For each kind, the number of sites where it can act: before each site, and in each word.
    sites_before = [np.append(0, np.cumsum(kind_counts > 0)) for kind_counts in counts]
    in_word = [np.diff(before[bounds]) for before in sites_before]
    random = bits_at(key, begins + first)
    drawn = _draw([number > 0 for number in in_word], weights, to_uniform(random))
    words = np.flatnonzero(drawn < len(kinds))
    drawn = drawn.take(words)
    site_draws = uniform_at(key ^ _SITE_KEY, begins[words] + first)
    selected = np.zeros(len(words), dtype=np.int64)  # the index of a site for each word
    for index, before in enumerate(sites_before):
        items = np.flatnonzero(drawn == index)
        word = words[items]
        rank = before[bounds[word]] + (site_draws[items] * in_word[index][word]).astype(np.int64)
        selected[items] = np.searchsorted(before, rank, side="right") - 1
    selected_counts = _of_kind([kind_counts.take(selected) for kind_counts in counts], drawn)
    return _Plan(sites.take(selected), drawn, selected_counts, random.take(words))


def _word_sites(scope: Scope, kinds: list[Kind], begins: Indices, ends: Indices) -> tuple[Sites, Indices]:
    """The sites in each of W words and directly after it, and (W + 1,) the bounds of each word among the sites."""
    behind = np.ones(len(ends), dtype=np.int64)
    behind[:-1] = begins[1:] != ends[:-1]  # without spaces, the next word begins there
    lengths = np.minimum(ends + behind, len(scope.symbols)) - begins
    offsets = np.cumsum(lengths) - lengths
    words = np.repeat(np.arange(len(begins)), lengths)
    positions = begins[words] + np.arange(int(lengths.sum())) - offsets[words]
    sites = scope.sites(positions, *_reach(kinds))
    bounds = np.append(np.searchsorted(sites.positions, begins), len(sites.positions))
    return sites, bounds


def _reach(kinds: list[Kind]) -> tuple[int, int]:
    """The flags on which any of the kinds acts, and their longest reach."""
    acts_on = 0
    for kind in kinds:
        acts_on |= kind.acts_on
    return acts_on, max(kind.reach for kind in kinds)


def _count(kind: Kind, sites: Sites) -> Indices:
    """(E,) number of edits that a kind can make at each site."""
    counts: Indices = kind.count(sites) * (sites.flags & kind.acts_on != 0)
    return counts


def _can_act(kinds: list[Kind], sites: Sites) -> Mask:
    """(E,) whether any of the kinds can act at each site."""
    can_act: Mask = np.any([_count(kind, sites) > 0 for kind in kinds], axis=0)
    return can_act


def _of_kind(counts: list[Indices], kinds: npt.NDArray[np.uint8]) -> Indices:
    """(E,) the count of the kind that was drawn for each site; 0 if no kind was drawn."""
    selected = np.zeros(len(kinds), dtype=np.int64)
    for index, kind_counts in enumerate(counts):
        np.copyto(selected, kind_counts, where=kinds == index)
    return selected


def _draw(can_act: list[Mask], weights: list[float], random: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """(E,) the index of a kind for each site, drawn by weight from those that can act; K if none can.

    Args:
        can_act: one mask for each of K kinds: (E,), or (1,) if it is the same for all sites.
        weights: K weights.
        random: (E,) uniform numbers in [0, 1).
    """
    bounds = []
    total = np.zeros(1)
    for mask, weight in zip(can_act, weights, strict=True):
        total = total + mask * weight
        bounds.append(total)
    threshold = random * total
    drawn = np.zeros(len(random), dtype=np.uint8)
    for bound in bounds:
        drawn += threshold >= bound
    return drawn


def _emit(kinds: list[Kind], plan: _Plan) -> tuple[Edits, list[tuple[Indices, Emission]]]:
    """Makes the planned edits, without those that overlap a previous one.

    Returns:
        The edits, and for each kind the indices of its edits with their output.
    """
    positions = plan.sites.positions
    emissions = []
    consumes, emits = np.zeros((2, len(positions)), dtype=np.int64)
    for index in np.bincount(plan.kinds).nonzero()[0].tolist():  # a short text has few of the kinds
        kind, items = kinds[index], (plan.kinds == index).nonzero()[0]
        low = plan.random.take(items) & np.uint64(0xFFFFFFFF)
        choices = ((low * plan.counts.take(items).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)
        emission = kind.emit(plan.sites.take(items), choices)
        consumes[items], emits[items] = emission.consumes, emission.lengths
        emissions.append((items, emission))
    is_kept = ~_consumed(positions, consumes)
    edits = Edits(positions, plan.kinds.astype(np.int64), consumes, emits)
    if is_kept.all():
        return edits, emissions
    new_index = np.cumsum(is_kept) - 1
    with_kept = [(items, np.flatnonzero(is_kept.take(items)), emission) for items, emission in emissions]
    return Edits(*(part.compress(is_kept) for part in edits)), [
        (new_index.take(items.take(kept)), emission if len(kept) == len(items) else emission.take(kept))
        for items, kept, emission in with_kept
    ]


def _consumed(positions: Indices, consumes: Indices) -> Mask:
    """(E,) whether each edit starts at a symbol that a previous edit consumed, from left to right."""
    consumed = np.zeros(len(positions), dtype=bool)
    ends = positions + consumes
    # Only edits that overlap a previous one, if all were made, need the loop.
    overlapping = np.flatnonzero(positions[1:] < np.maximum.accumulate(ends)[:-1]) + 1
    if len(overlapping):
        previous, end = -1, -1
        for index in overlapping.tolist():
            if index != previous + 1:
                end = int(ends[index - 1])
            if positions[index] < end:
                consumed[index] = True
            else:
                end = int(ends[index])
            previous = index
    return consumed
