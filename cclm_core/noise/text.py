"""Noise on strings: each character is a symbol, and entities move with their characters."""

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from cclm_core.corpus.records import Entity
from cclm_core.noise.edits import INSERTED, Edits, Indices, Mask, Source, move_spans, move_starts
from cclm_core.noise.engine import apply, eligible, possible_edits
from cclm_core.noise.keyboards import missing_keyboard, neighbors_on, scripts
from cclm_core.noise.misspellings import Spellings
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import SymbolTables
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.vocabulary import Preprocessor

# ASCII, Latin-1, Latin Extended-A, Greek, Cyrillic and curly quotes. Their tables are built only once.
_RANGES = ((0, 0x180), (0x370, 0x530), (0x2018, 0x2020))
_COMMON = "".join(chr(point) for first, last in _RANGES for point in range(first, last))
_SEPARATOR = "\n"  # between the texts of a batch; no kind of noise edits it
_SURROGATES = frozenset(map(chr, range(0xD800, 0xE000)))  # encoding the text rejects them


class NoisedText(NamedTuple):
    """A noised string.

    Attributes:
        text: M characters.
        entities: the moved entities, without those that lost all their characters.
        source: (M,) int32, the index of the input character that each character comes from; -1 if it was inserted.
        edits: the edits.
    """

    text: str
    entities: list[Entity]
    source: Source
    edits: Edits


class SingleEdit(NamedTuple):
    """One edit of the kind named `kind`: the characters from `start` to `end` (exclusive) become `replacement`."""

    start: int
    end: int
    replacement: str
    kind: str


class TextNoiser:
    """Noises strings with one recipe. The result depends only on the arguments, not on previous strings.

    An inserted letter has the script and case of the letter before it. For Latin, Greek and Cyrillic it is a letter of
    a standard keyboard, for other scripts a letter of the same string.

    >>> noiser = TextNoiser(NoiseRecipe(rate=1, kinds=["misspelling"]), {"their": {"thier": 3}})
    >>> noiser("Their house", np.random.default_rng(1)).text
    'Thier house'

    Args:
        recipe: the kinds of noise and their rate.
        misspellings: the misspellings of each word with their counts, required by the kind `misspelling`.
    """

    def __init__(self, recipe: NoiseRecipe, misspellings: Spellings | None = None) -> None:
        self.recipe = recipe
        self._checks_keyboard = "keyboard" in recipe.kinds
        self._common = _common(recipe.layouts)
        self._common_set = frozenset(self._common.alphabet)
        self._tables = (
            _common_tables(recipe.layouts)
            if misspellings is None or "misspelling" not in recipe.kinds
            else SymbolTables.for_preprocessor(self._common, recipe.layouts, misspellings)
        )

    def __call__(
        self,
        text: str,
        generator: np.random.Generator,
        entities: Sequence[Entity] = (),
        protected: Sequence[tuple[int, int]] = (),
        fences: Sequence[int] = (),
    ) -> NoisedText:
        """Noises a string. Without a character to edit, the string is returned unchanged.

        Args:
            text: N characters.
            generator: the source of all randomness.
            entities: labeled spans; no edit crosses the edge of a span.
            protected: (start, end) spans of characters that are not edited; `end` is exclusive.
            fences: indices that no edit crosses.

        Raises:
            DataError: the text contains a lone surrogate.
            ConfigError: the recipe contains the kind `misspelling`, but there is no list.
        """
        if self._checks_keyboard:
            self._check_keyboard(text)
        characters, tables = self._alphabet(text)
        symbols = characters.encode(text)
        starts = np.union1d(_edges(entities), np.array(fences, dtype=np.int64)) if len(fences) else _edges(entities)
        noised = apply(self.recipe, symbols, tables, generator, _mask(protected, len(text)), starts)
        moved = move_spans(entities, noised.source, len(text))
        return NoisedText(characters.decode(noised.symbols), moved, noised.source, noised.edits)

    def batch(
        self, texts: Sequence[str], generator: np.random.Generator, entities: Sequence[Sequence[Entity]] | None = None
    ) -> list[NoisedText]:
        """Noises many strings at once, up to a hundred times faster than one call for each of many short ones.

        The result is deterministic, but differs from that of single calls: all strings share one key.

        Args:
            texts: T strings.
            generator: the source of all randomness.
            entities: labeled spans of each string; None for none.

        Raises:
            DataError: a text contains a lone surrogate.
            ConfigError: `entities` has another length than `texts`; or see `__call__`.
        """
        spans: Sequence[Sequence[Entity]] = [()] * len(texts) if entities is None else entities
        if len(spans) != len(texts):
            raise ConfigError(f"entities must have one item for each of {len(texts)} texts, got {len(spans)}.")
        lengths = np.array([len(text) + 1 for text in texts], dtype=np.int64)  # each with a separator after it
        starts = np.cumsum(lengths) - lengths
        edges = [
            start + edge for start, some in zip(starts.tolist(), spans, strict=True) for edge in _edges(some).tolist()
        ]
        joined = self("".join(f"{text}{_SEPARATOR}" for text in texts), generator, (), (), [*starts.tolist(), *edges])
        source, edits = joined.source, joined.edits
        bounds = np.append(move_starts(starts, source), len(source))
        source = np.where(source == INSERTED, source, source - np.repeat(starts, np.diff(bounds)).astype(np.int32))
        edit_bounds = np.append(np.searchsorted(edits.positions, starts), len(edits.positions))
        edits = edits._replace(positions=edits.positions - np.repeat(starts, np.diff(edit_bounds)))
        result = []
        places = zip(pairwise(bounds.tolist()), pairwise(edit_bounds.tolist()), strict=True)
        for text, some, ((begin, end), (first, last)) in zip(texts, spans, places, strict=True):
            own_source = source[begin : end - 1]  # without the separator
            moved = move_spans(some, own_source, len(text)) if some else []
            own_edits = Edits(*(values[first:last] for values in edits))
            result.append(NoisedText(joined.text[begin : end - 1], moved, own_source, own_edits))
        return result

    def eligible(self, text: str, entities: Sequence[Entity] = (), protected: Sequence[tuple[int, int]] = ()) -> Mask:
        """(N,) where the recipe can make an edit, at each with the probability `rate`; see `engine.eligible`."""
        characters, tables = self._alphabet(text)
        protected_mask = _mask(protected, len(text))
        return eligible(self.recipe, characters.encode(text), tables, protected_mask, _edges(entities))

    def single_edits(self, text: str, protected: Sequence[tuple[int, int]] = ()) -> Iterator[SingleEdit]:
        """Yields each edit that the recipe could make in a string, kind by kind; the rate is not used."""
        characters, tables = self._alphabet(text)
        symbols = characters.encode(text)
        for edit in possible_edits(self.recipe, symbols, tables, _mask(protected, len(text))):
            yield SingleEdit(edit.start, edit.end, characters.decode(edit.symbols), edit.kind)

    def _check_keyboard(self, text: str) -> None:
        """Warns once if the keyboards do not have the letters of a text, so that `keyboard` does nothing."""
        if text.isascii() and "LATIN" in scripts(self.recipe.layouts):
            return
        if message := missing_keyboard(text, self.recipe.layouts):
            self._checks_keyboard = False
            warnings.warn(message, stacklevel=3)

    def _alphabet(self, text: str) -> tuple[Preprocessor, SymbolTables]:
        """An alphabet in which each character is one symbol: the common ones, and those of the text in both cases."""
        rare = set() if text.isascii() else set(text) - self._common_set - _SURROGATES
        if not rare:
            return self._common, self._tables
        swapped = {character.swapcase() for character in rare if len(character.swapcase()) == 1}
        new = "".join([*sorted(rare), *sorted(swapped - rare - self._common_set)])
        return Preprocessor(alphabet=self._common.alphabet + new), self._tables.extended(new)


def noise_text(
    text: str,
    recipe: NoiseRecipe,
    generator: np.random.Generator,
    entities: Sequence[Entity] = (),
    protected: Sequence[tuple[int, int]] = (),
) -> NoisedText:
    """Noises one string; see `TextNoiser` for the arguments. Use that class for the kind `misspelling`.

    >>> noise_text("their house", NoiseRecipe(rate=0.3, kinds=["swap"]), np.random.default_rng(1)).text
    'hteri house'
    """
    return TextNoiser(recipe)(text, generator, entities, protected)


def _edges(entities: Sequence[Entity]) -> Indices:
    """The sorted starts and ends of entities."""
    return np.unique([edge for entity in entities for edge in (entity.start, entity.end)]).astype(np.int64)


def _mask(spans: Sequence[tuple[int, int]], length: int) -> Mask | None:
    """(length,) true inside the spans; None without spans."""
    if not spans:
        return None
    mask = np.zeros(length, dtype=bool)
    for start, end in spans:
        mask[start:end] = True
    return mask


@lru_cache(maxsize=16)
def _common(layouts: tuple[str, ...]) -> Preprocessor:
    """The common characters, and those on the keys of the keyboards."""
    keys = set("".join(letter + letter.upper() for letter in neighbors_on(layouts)))
    return Preprocessor(alphabet=_COMMON + "".join(sorted(keys - set(_COMMON))))


@lru_cache(maxsize=16)
def _common_tables(layouts: tuple[str, ...]) -> SymbolTables:
    return SymbolTables.for_preprocessor(_common(layouts), layouts)
