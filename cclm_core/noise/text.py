"""Noise on strings: a string's characters are the symbols, its entities move along."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cclm_core.noise.edits import Edits, Indices, Source, move_spans
from cclm_core.noise.recipe import NoiseRecipe, apply, eligible
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.records import Entity
from cclm_core.text.vocabulary import Preprocessor

_ASCII = "".join(map(chr, range(128)))


class NoisedText(NamedTuple):
    """A string with noise.

    Attributes:
        text: M characters.
        entities: where the entities are now; one that lost all its characters is left out.
        source: (M,) int32, the character of the input for which each one stands; -1 where it was inserted.
        edits: what was done where.
    """

    text: str
    entities: list[Entity]
    source: Source
    edits: Edits


def noise_text(
    text: str, recipe: NoiseRecipe, generator: np.random.Generator, entities: Sequence[Entity] = ()
) -> NoisedText:
    """Noises a string. The result depends on the arguments alone; a string without letters comes back as it is.

    Letters to insert or substitute come from ASCII and from the string itself, in the same script and case.

    >>> noise_text("their house", NoiseRecipe(rate=0.3, kinds=["swap"]), np.random.default_rng(1)).text
    'theri house'

    Raises:
        DataError: a lone surrogate, named with its position.
    """
    characters, tables = _alphabet(text)
    noised = apply(recipe, characters.encode(text), tables, generator, starts=_edges(entities))
    moved = move_spans(entities, noised.source, len(text))
    return NoisedText(characters.decode(noised.symbols), moved, noised.source, noised.edits)


def num_eligible(text: str, recipe: NoiseRecipe, entities: Sequence[Entity] = ()) -> int:
    """How many letters of a string could start an edit: what the rate of a recipe is a share of."""
    characters, tables = _alphabet(text)
    return int(eligible(recipe, characters.encode(text), tables, starts=_edges(entities)).sum())


def _edges(entities: Sequence[Entity]) -> Indices:
    return np.unique([edge for entity in entities for edge in (entity.start, entity.end)]).astype(np.int64)


def _alphabet(text: str) -> tuple[Preprocessor, SymbolTables]:
    return _tables("" if text.isascii() else "".join(sorted(set(text) - set(_ASCII))))


@lru_cache(maxsize=256)
def _tables(others: str) -> tuple[Preprocessor, SymbolTables]:
    """An alphabet in which each character of a text is one symbol: ASCII, the `others`, their other case."""
    flipped = sorted({character.swapcase() for character in others} - set(others) - set(_ASCII))
    preprocessor = Preprocessor(alphabet=_ASCII + others + "".join(one for one in flipped if len(one) == 1))
    return preprocessor, SymbolTables.for_preprocessor(preprocessor)
