"""Recipes: which kinds of noise, how often, and what is spared; and how one is carried out.

>>> recipe = NoiseRecipe(rate=0.1, kinds=["swap", "drop"])
>>> recipe.kinds
{'swap': 1.0, 'drop': 1.0}
"""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BeforeValidator, Field

from cclm_core.config import Config, nearest
from cclm_core.noise.catalogue import CATALOGUE
from cclm_core.noise.edits import Edits, Indices, Noised, write_edits
from cclm_core.noise.kind import Mask, Sites, Symbols
from cclm_core.noise.tables import EXTENDS, LETTER, LINKS, SymbolTables


def _weights(kinds: Any) -> Any:
    return dict.fromkeys(kinds, 1.0) if isinstance(kinds, list | tuple) else kinds


def _known(kinds: dict[str, float]) -> dict[str, float]:
    for name, weight in kinds.items():
        if name not in CATALOGUE:
            raise ValueError(f"no kind of noise is called {name!r}; {nearest(name, list(CATALOGUE))}")
        if not 0 < weight < float("inf"):
            raise ValueError(f"the weight of {name} must be above 0; leave the kind out instead")
    if not kinds:
        raise ValueError(f"at least one kind of noise must be named, of {', '.join(CATALOGUE)}")
    return {name: kinds[name] for name in CATALOGUE if name in kinds}


def _distinct(rates: tuple[float, ...]) -> tuple[float, ...]:
    if len({f"{rate:g}" for rate in rates}) < len(rates):
        raise ValueError("each rate must stand there once (six digits count)")
    return rates


Kinds = Annotated[dict[str, float], BeforeValidator(_weights), AfterValidator(_known)]
Rate = Annotated[float, Field(ge=0, le=1)]
Rates = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(_distinct)]

_ALL = dict.fromkeys(CATALOGUE, 1.0)


class NoiseRecipe(Config):
    """Noise of several kinds at one rate.

    Attributes:
        rate: probability that a letter that may be edited starts an edit; 0 to 1.
        kinds: names with weights, or names alone, which weigh the same. A kind is chosen among those that can
            act at a letter, so the rate holds whatever the kinds.
        min_word_length: letters that a word must have to be touched.
        protect_first, protect_last: leave the first or the last letter of every word in its place.
    """

    rate: Rate = 0.05
    kinds: Kinds = Field(default=_ALL)
    min_word_length: int = Field(default=1, ge=1)
    protect_first: bool = False
    protect_last: bool = False


class TrainingNoise(NoiseRecipe):
    """The section `noise.training`: the noise that training draws afresh for every batch; rate 0 is none."""

    rate: Rate = 0.02


class NoiseConfig(Config):
    """The section `noise`: the sets for evaluation, and the noise in training.

    Attributes:
        rates: one set of documents for each.
        kinds, min_word_length, protect_first, protect_last: as in `NoiseRecipe`.
        max_documents: how many documents of the test split at most.
        variants: only documents of these variants, and those that have none; all, if None.
        training: what training stages read, and nothing else does.
    """

    rates: Rates = (0.05, 0.1, 0.2)
    kinds: Kinds = Field(default=_ALL)
    min_word_length: int = Field(default=1, ge=1)
    protect_first: bool = False
    protect_last: bool = False
    max_documents: int = Field(default=1000, ge=1)
    variants: tuple[str, ...] | None = None
    training: TrainingNoise = TrainingNoise()

    def recipe(self, rate: float) -> NoiseRecipe:
        """The recipe of the set with that rate."""
        spared = {name: getattr(self, name) for name in ("min_word_length", "protect_first", "protect_last")}
        return NoiseRecipe(rate=rate, kinds=self.kinds, **spared)


def apply(
    recipe: NoiseRecipe,
    symbols: npt.NDArray[Any],
    tables: SymbolTables,
    generator: np.random.Generator,
    protected: Mask | None = None,
    starts: Indices | None = None,
) -> Noised:
    """Noises an array of symbols, with the map of its edits.

    A letter that an edit consumed (the second of a swap) starts no edit of its own.

    Args:
        recipe: what to do.
        symbols: (N,) integers; not changed.
        tables: what each symbol may become.
        generator: where all randomness comes from.
        protected: (N,) true where a symbol must stay as it is.
        starts: rising indices; no symbol moves across one. Many windows one after the other are noised at the
            cost of one call by giving where they start; `edits.move_starts` tells where they start afterwards.
    """
    positions = _hits(recipe.rate, len(symbols), generator)
    positions, sites = _sites(recipe, positions, symbols, tables, protected, starts)
    names = list(recipe.kinds)
    kinds = [CATALOGUE[name] for name in names]
    able = np.stack([kind.applies(sites) for kind in kinds])
    bounds = np.cumsum(able * np.array(list(recipe.kinds.values()))[:, None], axis=0)
    # Of the kinds that can act the one in whose share of the weights a uniform draw falls.
    chosen = (generator.random(len(positions)) * bounds[-1] >= bounds).sum(axis=0)
    chosen[bounds[-1] == 0] = -1
    alive = (chosen >= 0) & ~_consumed(positions, np.append([kind.consumes for kind in kinds], 1)[chosen] == 2)
    positions, sites, chosen = positions[alive], sites[alive], chosen[alive]
    emitted = [kind.emit(sites[chosen == index], generator) for index, kind in enumerate(kinds)]
    noised = write_edits(symbols, Edits(positions, chosen), kinds, emitted)
    in_catalogue = np.array([list(CATALOGUE).index(name) for name in names])
    return noised._replace(edits=Edits(positions, in_catalogue[chosen]))


def eligible(
    recipe: NoiseRecipe,
    symbols: npt.NDArray[Any],
    tables: SymbolTables,
    protected: Mask | None = None,
    starts: Indices | None = None,
) -> Mask:
    """(N,) where an edit of `apply` with the same arguments could start: what its rate is a share of."""
    mask = np.zeros(len(symbols), dtype=bool)
    positions, sites = _sites(recipe, np.arange(len(symbols)), symbols, tables, protected, starts)
    able = np.stack([CATALOGUE[name].applies(sites) for name in recipe.kinds]).any(axis=0)
    mask[positions[able]] = True
    return mask


def _hits(rate: float, length: int, generator: np.random.Generator) -> Indices:
    """Each index below `length` with probability `rate`, by drawing the gaps between them."""
    if rate == 0 or length == 0:
        return np.empty(0, dtype=np.int64)
    if rate == 1:
        return np.arange(length)
    scale = -1 / np.log1p(-rate)
    parts, last = [], -1
    while last < length:
        expected = (length - last) * rate
        size = int(expected + 4 * np.sqrt(expected)) + 8
        gaps = np.minimum(generator.standard_exponential(size) * scale, length).astype(np.int64) + 1
        parts.append(last + np.cumsum(gaps))
        last = int(parts[-1][-1])
    positions = np.concatenate(parts)
    return positions[: np.searchsorted(positions, length)]


def _sites(
    recipe: NoiseRecipe,
    positions: Indices,
    symbols: npt.NDArray[Any],
    tables: SymbolTables,
    protected: Mask | None,
    starts: Indices | None,
) -> tuple[Indices, Sites]:
    """Those of `positions` at which an edit may start, and what stands there."""
    positions = positions[_free(recipe, positions, symbols, tables, protected)]
    behind = positions + 1
    pair = behind < len(symbols)
    pair[pair] = _free(recipe, behind[pair], symbols, tables, protected)
    if starts is not None and len(starts):
        pair &= starts[np.minimum(np.searchsorted(starts, behind), len(starts) - 1)] != behind
    after: Symbols = symbols.take(behind, mode="clip") if len(symbols) else symbols
    return positions, Sites(tables, symbols[positions], after, pair)


def _free(
    recipe: NoiseRecipe, positions: Indices, symbols: npt.NDArray[Any], tables: SymbolTables, protected: Mask | None
) -> Mask:
    """(E,) which of `positions` hold a letter that may be edited."""

    def has(flag: int, at: Indices) -> Mask:
        found: Mask = (at >= 0) & (at < len(symbols))
        if len(symbols):
            found &= tables.flags[symbols.take(at, mode="clip")] & flag != 0
        return found

    free = has(LETTER, positions) & ~has(EXTENDS, positions + 1) & ~has(LINKS, positions - 1)
    if protected is not None:
        free &= ~protected[positions]
    if recipe.protect_first:
        free &= has(LETTER, positions - 1)
    if recipe.protect_last:
        free &= has(LETTER, positions + 1)
    if recipe.min_word_length > 1:
        length = np.ones(len(positions), dtype=np.int64)
        for direction in (-1, 1):
            reached = np.ones(len(positions), dtype=bool)
            for step in range(1, recipe.min_word_length):
                reached &= has(LETTER, positions + direction * step)
                length += reached
        free &= length >= recipe.min_word_length
    return free


def _consumed(positions: Indices, takes_next: Mask) -> Mask:
    """(E,) which edits start at a symbol that the edit before them consumed, read from left to right."""
    blocks = takes_next[:-1] & (positions[1:] == positions[:-1] + 1)
    index = np.arange(len(positions))
    # In a run of edits each of which would block the next, every second one is blocked.
    run_start = np.maximum.accumulate(np.where(np.append(False, blocks)[: len(index)], 0, index))
    blocked: Mask = (index - run_start) % 2 == 1
    return blocked
