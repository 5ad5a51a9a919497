"""Noise on strings: the symbols are the characters of the string, and its entities move with them."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from cclm_core.corpus.records import Entity
from cclm_core.noise.edits import Edits, Indices, Mask, Source, move_spans
from cclm_core.noise.engine import apply, eligible, possible_edits
from cclm_core.noise.misspellings import Spellings
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.vocabulary import Preprocessor

# ASCII, Latin-1, Latin Extended-A, Greek, Cyrillic, curly quotes: their tables are built once.
_RANGES = ((0, 0x180), (0x370, 0x530), (0x2018, 0x2020))
_COMMON = "".join(chr(point) for first, last in _RANGES for point in range(first, last))
_KNOWN = frozenset(_COMMON)
_SURROGATES = frozenset(map(chr, range(0xD800, 0xE000)))  # rejected where a text is encoded


class NoisedText(NamedTuple):
    """A string with noise.

    Attributes:
        text: M characters.
        entities: where the entities are now, without those that lost all their characters.
        source: (M,) int32, the index of the input character to which each corresponds; -1 where it was inserted.
        edits: the edits that were made.
    """

    text: str
    entities: list[Entity]
    source: Source
    edits: Edits


class SingleEdit(NamedTuple):
    """One edit of a string by a kind of noise: the characters from `start` to `end` become `replacement`."""

    start: int
    end: int
    replacement: str
    kind: str


class TextNoiser:
    """Noises strings by one recipe. The result depends only on the arguments, not on previous strings.

    Inserted letters have the script and case of their neighbor: in Latin, Greek and Cyrillic, those of a keyboard; in
    other scripts, those of the string.

    >>> noiser = TextNoiser(NoiseRecipe(rate=1, kinds=["misspelling"]), {"their": {"thier": 3}})
    >>> noiser("Their house", np.random.default_rng(1)).text
    'Thier house'

    Args:
        recipe: what to do.
        misspellings: for the kind `misspelling`: for each word its misspellings with their counts.
    """

    def __init__(self, recipe: NoiseRecipe, misspellings: Spellings | None = None) -> None:
        self.recipe = recipe
        self._tables = (
            _common_tables(recipe.layouts)
            if misspellings is None or "misspelling" not in recipe.kinds
            else SymbolTables.for_preprocessor(Preprocessor(alphabet=_COMMON), recipe.layouts, misspellings)
        )

    def __call__(
        self,
        text: str,
        generator: np.random.Generator,
        entities: Sequence[Entity] = (),
        protected: Sequence[tuple[int, int]] = (),
    ) -> NoisedText:
        """Noises a string; a string with nothing to edit is returned unchanged.

        Args:
            text: N characters.
            generator: the source of all randomness.
            entities: labeled spans; no edit reaches across the edge of one.
            protected: spans of characters that stay as they are, half open.

        Raises:
            DataError: a lone surrogate; the message contains its position.
            ConfigError: the kind `misspelling` without a list.
        """
        characters, tables = self._alphabet(text)
        symbols = characters.encode(text)
        noised = apply(self.recipe, symbols, tables, generator, _mask(protected, len(text)), _edges(entities))
        moved = move_spans(entities, noised.source, len(text))
        return NoisedText(characters.decode(noised.symbols), moved, noised.source, noised.edits)

    def eligible(self, text: str, entities: Sequence[Entity] = (), protected: Sequence[tuple[int, int]] = ()) -> Mask:
        """(N,) the places of which the recipe edits the share `rate`; see `engine.eligible`."""
        characters, tables = self._alphabet(text)
        protected_mask = _mask(protected, len(text))
        return eligible(self.recipe, characters.encode(text), tables, protected_mask, _edges(entities))

    def single_edits(self, text: str, protected: Sequence[tuple[int, int]] = ()) -> Iterator[SingleEdit]:
        """Every edit that the kinds of the recipe could make in a string, each on its own, kind by kind."""
        characters, tables = self._alphabet(text)
        symbols = characters.encode(text)
        for edit in possible_edits(self.recipe, symbols, tables, _mask(protected, len(text))):
            yield SingleEdit(edit.start, edit.end, characters.decode(edit.symbols), edit.kind)

    def _alphabet(self, text: str) -> tuple[Preprocessor, SymbolTables]:
        """An alphabet in which each character is one symbol: common ones, others of the text, and their other case."""
        others = [] if text.isascii() else sorted(set(text) - _KNOWN - _SURROGATES)
        if not others:
            return _common(), self._tables
        flipped = sorted({other.swapcase() for other in others if len(other.swapcase()) == 1} - set(others) - _KNOWN)
        more = "".join([*others, *flipped])
        return Preprocessor(alphabet=_COMMON + more), self._tables.extended(more)


def noise_text(
    text: str,
    recipe: NoiseRecipe,
    generator: np.random.Generator,
    entities: Sequence[Entity] = (),
    protected: Sequence[tuple[int, int]] = (),
) -> NoisedText:
    """Noises one string; see `TextNoiser`, which also takes a list of misspellings.

    >>> noise_text("their house", NoiseRecipe(rate=0.3, kinds=["swap"]), np.random.default_rng(1)).text
    'hteri house'
    """
    return TextNoiser(recipe)(text, generator, entities, protected)


def _edges(entities: Sequence[Entity]) -> Indices:
    return np.unique([edge for entity in entities for edge in (entity.start, entity.end)]).astype(np.int64)


def _mask(spans: Sequence[tuple[int, int]], length: int) -> Mask | None:
    if not spans:
        return None
    mask = np.zeros(length, dtype=bool)
    for start, end in spans:
        mask[start:end] = True
    return mask


@lru_cache(maxsize=1)
def _common() -> Preprocessor:
    return Preprocessor(alphabet=_COMMON)


@lru_cache(maxsize=16)
def _common_tables(layouts: tuple[str, ...]) -> SymbolTables:
    return SymbolTables.for_preprocessor(_common(), layouts)
