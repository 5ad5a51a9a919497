"""Symbol tables: what noise may do with each symbol, as arrays that are indexed by id.

The same code noises encoded corpora in training and strings, since both are arrays of symbols with a table.
Special ids, and the bytes of characters outside the alphabet, are never touched.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cclm_core.noise.confusions import CONFUSIONS, MAX_PATTERN
from cclm_core.noise.edits import Indices
from cclm_core.noise.keyboards import neighbours_on, plain_letters
from cclm_core.noise.lookup import Lookup
from cclm_core.noise.misspellings import Spellings
from cclm_core.text.vocabulary import FIRST_BYTE, FIRST_CHARACTER, Preprocessor
from cclm_core.text.words import APOSTROPHES

# Flags of a symbol. A letter is not edited where this would cut a cluster in half.
LETTER = 1  # unlike in `text.words`, no number such as ²: it has no case, keys or misspelling
EXTENDS = 2  # belongs to the preceding symbol: a combining mark, a conjoining vowel
LINKS = 4  # joins the preceding symbol to the next one: ZWJ, virama
DIGIT = 8
SPACE = 16
PUNCTUATION = 32
APOSTROPHE = 64  # part of a word between two letters

NONE = -1

_MAX_WEIGHT = 8  # how much more likely than another one misspelling of a word can be


@dataclass(frozen=True)
class Choices:
    """Alternatives of each symbol: those of symbol s are `values[starts[s] : starts[s] + counts[s]]`."""

    starts: Indices
    counts: Indices
    values: Indices

    @classmethod
    def of(cls, alternatives: Mapping[int, Sequence[int]], num_symbols: int) -> "Choices":
        """The table of symbols with their alternatives; symbols with the same list object share its storage."""
        starts, counts = np.zeros(num_symbols, dtype=np.int64), np.zeros(num_symbols, dtype=np.int64)
        values: list[int] = []
        places: dict[int, int] = {}
        for symbol, options in alternatives.items():
            if id(options) not in places:
                places[id(options)] = len(values)
                values.extend(options)
            starts[symbol], counts[symbol] = places[id(options)], len(options)
        return cls(starts, counts, np.array(values, dtype=np.int64))

    def extended(self, alternatives: Mapping[int, Sequence[int]], more: int) -> "Choices":
        """The same for `more` further symbols."""
        new = Choices.of(alternatives, len(self.starts) + more)
        starts, counts = new.starts + len(self.values), new.counts
        starts[: len(self.starts)], counts[: len(self.starts)] = self.starts, self.counts
        return Choices(starts, counts, np.concatenate([self.values, new.values]))

    def count(self, symbols: npt.NDArray[Any]) -> Indices:
        """(E,) how many alternatives each of `symbols` has."""
        return self.counts.take(symbols)

    def pick(self, symbols: npt.NDArray[Any], which: Indices) -> Indices:
        """(E,) the alternative number `which` of each of `symbols`."""
        return self.values.take(self.starts.take(symbols) + which)

    def ways(self, symbol: int) -> list[int]:
        """The alternatives of one symbol."""
        alternatives: list[int] = self.values[self.starts[symbol] :][: self.counts[symbol]].tolist()
        return alternatives


@dataclass(frozen=True)
class SymbolTables:
    """What noise may do with each of V symbols.

    Attributes:
        flags: (V,) uint8, LETTER and so on, combined.
        space: the symbol of the space, or NONE.
        case: the same letter in the other case.
        keys: letters of adjacent keys, in the same case.
        letters: letters of the same script and case that keyboards have keys for.
        confusions: for each name in `CONFUSIONS`, patterns with their replacements.
        words: words with their misspellings.
        alphabet: the symbol of each character that has one.
    """

    flags: npt.NDArray[np.uint8]
    space: int
    case: Choices
    keys: Choices
    letters: Choices
    confusions: Mapping[str, Lookup]
    words: Lookup
    alphabet: Mapping[str, int]

    @classmethod
    def for_preprocessor(
        cls, preprocessor: Preprocessor, layouts: Sequence[str] = ("qwerty",), misspellings: Spellings | None = None
    ) -> "SymbolTables":
        """The tables for the ids of a vocabulary.

        What is typed instead of a letter is in the alphabet; confusions and listed misspellings may contain bytes of
        other characters.

        Args:
            preprocessor: the vocabulary.
            layouts: names of keyboards, see `noise.keyboards`.
            misspellings: for each word its misspellings with their counts, see `noise.misspellings`.
        """
        ids = {character: FIRST_CHARACTER + rank for rank, character in enumerate(preprocessor.alphabet)}
        num_symbols = preprocessor.num_ids
        flags = np.zeros(num_symbols, dtype=np.uint8)
        # Any byte of a character outside the alphabet may belong to a combining mark.
        flags[FIRST_BYTE + 0x80 : FIRST_CHARACTER] = EXTENDS
        for character, id_ in ids.items():
            flags[id_] = _flags(character)
        letters = {character: id_ for character, id_ in ids.items() if flags[id_] & LETTER}
        keys = neighbours_on(layouts)

        def spelt(text: str) -> tuple[int, ...]:
            return tuple(symbol for character in text for symbol in _symbols(character, ids))

        return cls(
            flags=flags,
            space=ids.get(" ", NONE),
            case=Choices.of(_cases(letters, ids), num_symbols),
            keys=Choices.of({id_: _known(_near(letter, keys), ids) for letter, id_ in letters.items()}, num_symbols),
            letters=Choices.of(_scripts(letters), num_symbols),
            confusions={name: _patterns(table.pairs(), ids, spelt) for name, table in CONFUSIONS.items()},
            words=_words(misspellings or {}, ids, spelt),
            alphabet=ids,
        )

    def extended(self, characters: str) -> "SymbolTables":
        """The tables with more symbols after the existing ones: one for each of `characters`.

        The new symbols have flags, the other case, and letters of the same script among themselves.
        """
        more = {character: len(self.flags) + rank for rank, character in enumerate(characters)}
        alphabet = {**self.alphabet, **more}
        letters = {character: symbol for character, symbol in more.items() if _flags(character) & LETTER}
        return replace(
            self,
            flags=np.append(self.flags, [_flags(character) for character in characters]).astype(np.uint8),
            case=self.case.extended(_cases(letters, alphabet), len(more)),
            keys=self.keys.extended({}, len(more)),
            letters=self.letters.extended(_scripts(letters), len(more)),
            alphabet=alphabet,
        )

    def spared(self, characters: str) -> npt.NDArray[np.bool_] | None:
        """(V,) bool: which symbols are among `characters`; None if there are no characters."""
        if not characters:
            return None
        spared = np.zeros(len(self.flags), dtype=bool)
        spared[[self.alphabet[character] for character in characters if character in self.alphabet]] = True
        return spared


def _flags(character: str) -> int:
    if character == "\u200d" or unicodedata.combining(character) == 9:
        return EXTENDS | LINKS
    point = ord(character)
    conjoining = 0x1160 <= point <= 0x11FF or 0xD7B0 <= point <= 0xD7FF  # Hangul vowels and finals
    category = unicodedata.category(character)
    if conjoining or category.startswith("M") or character in "\u200c\u0e33\u0eb3":
        return EXTENDS
    if character.isalpha():
        return LETTER
    if character in APOSTROPHES:
        return APOSTROPHE | PUNCTUATION
    if character == " ":
        return SPACE
    return {"N": DIGIT, "P": PUNCTUATION, "S": PUNCTUATION}.get(category[0], 0)


def _known(characters: Iterable[str], ids: Mapping[str, int]) -> list[int]:
    return [ids[character] for character in characters if character in ids]


def _cases(letters: Mapping[str, int], ids: Mapping[str, int]) -> dict[int, list[int]]:
    flipped = {id_: letter.swapcase() for letter, id_ in letters.items() if letter.swapcase() != letter}
    return {id_: _known([other], ids) for id_, other in flipped.items()}


def _near(letter: str, keys: Mapping[str, str]) -> list[str]:
    neighbors = keys.get(letter.lower(), "")
    return [key.upper() if letter.isupper() else key for key in neighbors]


def _scripts(letters: Mapping[str, int]) -> dict[int, list[int]]:
    """For each letter those of its script and case: those with a key on a keyboard; in scripts without one, all."""
    groups: dict[tuple[str, bool], list[int]] = {}
    typed = plain_letters()
    scripts = {_script(letter)[0] for letter in typed}
    for letter, id_ in letters.items():
        group = groups.setdefault(_script(letter), [])
        if letter.lower() in typed or _script(letter)[0] not in scripts:
            group.append(id_)
    return {id_: groups[_script(letter)] for letter, id_ in letters.items()}


def _script(letter: str) -> tuple[str, bool]:
    return unicodedata.name(letter, "").split(" ")[0], letter.isupper()


def _symbols(character: str, ids: Mapping[str, int]) -> tuple[int, ...]:
    """A character as the vocabulary encodes it."""
    if character in ids:
        return (ids[character],)
    return tuple(FIRST_BYTE + byte for byte in character.encode())


def _patterns(
    pairs: Iterable[tuple[str, str]], ids: Mapping[str, int], spelt: Callable[[str], tuple[int, ...]]
) -> Lookup:
    table: dict[tuple[int, ...], dict[tuple[int, ...], int]] = {}
    for pattern, other in pairs:
        assert len(pattern) <= MAX_PATTERN
        if all(character in ids for character in pattern):
            table.setdefault(spelt(pattern), {})[spelt(other)] = 1
    return Lookup(table)


def _words(misspellings: Spellings, ids: Mapping[str, int], spelt: Callable[[str], tuple[int, ...]]) -> Lookup:
    """Each word in lower case, capitalized, and in upper case; its misspellings likewise."""
    table: dict[tuple[int, ...], dict[tuple[int, ...], int]] = {}
    for word, spellings in misspellings.items():
        highest = max(spellings.values())
        for change in (str.lower, str.capitalize, str.upper):
            form = change(word)
            if all(character in ids for character in form):
                ways = table.setdefault(spelt(form), {})
                for spelling, count in spellings.items():
                    ways.setdefault(spelt(change(spelling)), max(1, round(_MAX_WEIGHT * count / highest)))
    return Lookup(table)
