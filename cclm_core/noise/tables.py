"""Symbol tables: the properties and replacements of each symbol, as arrays indexed by id.

Strings and encoded corpora are both arrays of symbols with a table, so the same code noises both. It never edits
special ids or the bytes of characters outside the alphabet.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cclm_core.noise.confusions import CONFUSIONS, MAX_PATTERN
from cclm_core.noise.edits import Indices
from cclm_core.noise.keyboards import neighbors_on, plain_letters, script
from cclm_core.noise.lookup import Lookup
from cclm_core.noise.misspellings import Spellings, check_spellings
from cclm_core.text.scripts import has_unspaced
from cclm_core.text.vocabulary import FIRST_BYTE, FIRST_CHARACTER, Preprocessor
from cclm_core.text.words import APOSTROPHES

# Flags of a symbol. EXTENDS and LINKS protect grapheme clusters: no edit splits one.
LETTER = 1  # unlike in `text.words`, without numbers such as ²: they have no case, keys or misspellings
EXTENDS = 2  # belongs to the preceding symbol: a combining mark, a conjoining vowel
LINKS = 4  # joins the preceding symbol to the next one: ZWJ, virama; unassigned characters may
DIGIT = 8
SPACE = 16
PUNCTUATION = 32
APOSTROPHE = 64  # part of a word between two letters

UNSPACED = 128  # a letter or mark of a script without spaces between words

NONE = -1

# Parts of a grapheme cluster that no general category tells, as in Unicode's GraphemeBreakProperty.txt. They extend the
# preceding symbol: ZWNJ, vowels of Thai and Lao, Japanese sound marks, skin tones, and the tags of flags.
_EXTENDING = re.compile("[\u200c\u0e33\u0eb3\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
# They belong to the next symbol: signs in front of Arabic and Syriac numbers, consonants of scripts of India.
_PREPENDED = re.compile(
    "[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3\U0001193f\U00011941"
    "\U00011a84-\U00011a89\U00011d46]"
)

_MAX_WEIGHT = 8  # maximum ratio between the weights of two misspellings of a word


@dataclass(frozen=True)
class Choices:
    """The alternatives of each symbol. Those of symbol s are `values[starts[s] : starts[s] + counts[s]]`."""

    starts: Indices
    counts: Indices
    values: Indices

    @classmethod
    def of(cls, alternatives: Mapping[int, Sequence[int]], num_symbols: int) -> "Choices":
        """Builds the table of `num_symbols` symbols. Symbols with the same list object share its storage."""
        starts, counts = np.zeros(num_symbols, dtype=np.int64), np.zeros(num_symbols, dtype=np.int64)
        values: list[int] = []
        offsets: dict[int, int] = {}  # of each list in `values`
        for symbol, options in alternatives.items():
            if id(options) not in offsets:
                offsets[id(options)] = len(values)
                values.extend(options)
            starts[symbol], counts[symbol] = offsets[id(options)], len(options)
        return cls(starts, counts, np.array(values, dtype=np.int64))

    def extended(self, alternatives: Mapping[int, Sequence[int]], num_new: int) -> "Choices":
        """Returns a copy with `num_new` more symbols and their alternatives."""
        new = Choices.of(alternatives, len(self.starts) + num_new)
        starts, counts = new.starts + len(self.values), new.counts
        starts[: len(self.starts)], counts[: len(self.starts)] = self.starts, self.counts
        return Choices(starts, counts, np.concatenate([self.values, new.values]))

    def count(self, symbols: npt.NDArray[Any]) -> Indices:
        """(E,) number of alternatives of each of `symbols` (E,)."""
        return self.counts.take(symbols)

    def pick(self, symbols: npt.NDArray[Any], choices: Indices) -> Indices:
        """(E,) one alternative of each of `symbols` (E,): the one with the index in `choices` (E,)."""
        return self.values.take(self.starts.take(symbols) + choices)

    def alternatives(self, symbol: int) -> list[int]:
        """The alternatives of one symbol."""
        values: list[int] = self.values[self.starts[symbol] :][: self.counts[symbol]].tolist()
        return values


@dataclass(frozen=True)
class SymbolTables:
    """The properties and replacements of V symbols.

    Attributes:
        flags: (V,) uint8, a bitmask of LETTER and the other flags of this module.
        space: the symbol of the space, or NONE.
        case: the same letter in the other case.
        keys: letters on adjacent keys, in the same case.
        letters: letters of the same script and case that have a key on a keyboard.
        confusions: patterns and their replacements, by name in `CONFUSIONS`.
        words: words and their misspellings.
        alphabet: the symbol of each character in the alphabet.
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
        """Builds the tables for the ids of a vocabulary.

        Typed letters are always in the alphabet. Confusions and misspellings can contain other characters, as bytes.

        Args:
            preprocessor: the vocabulary.
            layouts: names in `noise.keyboards.LAYOUTS`.
            misspellings: the misspellings of each word with their counts, see `noise.misspellings`.

        Raises:
            DataError: a misspelling or its count is not valid, see `check_spellings`.
        """
        check_spellings(misspellings or {})
        ids = {character: FIRST_CHARACTER + rank for rank, character in enumerate(preprocessor.alphabet)}
        num_symbols = preprocessor.num_ids
        flags = np.zeros(num_symbols, dtype=np.uint8)
        # Any byte of a character outside the alphabet can be part of a combining mark.
        flags[FIRST_BYTE + 0x80 : FIRST_CHARACTER] = EXTENDS
        for character, id_ in ids.items():
            flags[id_] = _flags(character)
        letters = {character: id_ for character, id_ in ids.items() if flags[id_] & LETTER}
        keys = neighbors_on(layouts)

        def encode(text: str) -> tuple[int, ...]:
            """The ids of a text, with bytes for characters outside the alphabet."""
            return tuple(symbol for character in text for symbol in _symbols(character, ids))

        return cls(
            flags=flags,
            space=ids.get(" ", NONE),
            case=Choices.of(_cases(letters, ids), num_symbols),
            keys=Choices.of(_adjacent(letters, keys), num_symbols),
            letters=Choices.of(_scripts(letters), num_symbols),
            confusions={name: _patterns(table.pairs(), ids, encode) for name, table in CONFUSIONS.items()},
            words=_words(misspellings or {}, ids, encode),
            alphabet=ids,
        )

    def extended(self, characters: str) -> "SymbolTables":
        """Returns a copy with one more symbol for each of `characters`, after the existing ones.

        The new symbols get flags, case pairs, and each other as letters of the same script. They get no keys,
        confusions or misspellings.
        """
        new = {character: len(self.flags) + rank for rank, character in enumerate(characters)}
        alphabet = {**self.alphabet, **new}
        letters = {character: symbol for character, symbol in new.items() if _flags(character) & LETTER}
        return replace(
            self,
            flags=np.append(self.flags, [_flags(character) for character in characters]).astype(np.uint8),
            case=self.case.extended(_cases(letters, alphabet), len(new)),
            keys=self.keys.extended({}, len(new)),
            letters=self.letters.extended(_scripts(letters), len(new)),
            alphabet=alphabet,
        )

    def mask_of(self, characters: str) -> npt.NDArray[np.bool_] | None:
        """(V,) bool, true for the symbols of `characters`; None if there are no characters."""
        if not characters:
            return None
        mask = np.zeros(len(self.flags), dtype=bool)
        mask[[self.alphabet[character] for character in characters if character in self.alphabet]] = True
        return mask


def _flags(character: str) -> int:
    category = unicodedata.category(character)
    # Python's tables are older than those of others: an unassigned character may be a mark of a newer Unicode.
    unknown = category == "Cn"
    if character == "\u200d" or unicodedata.combining(character) == 9 or unknown or _PREPENDED.match(character):
        return EXTENDS | LINKS
    point = ord(character)
    conjoining = 0x1160 <= point <= 0x11FF or 0xD7B0 <= point <= 0xD7FF  # Hangul vowels and finals
    written = UNSPACED if has_unspaced(character) else 0
    if conjoining or category.startswith("M") or _EXTENDING.match(character):
        return EXTENDS | written
    if character.isalpha():
        return LETTER | written
    if character in APOSTROPHES:
        return APOSTROPHE | PUNCTUATION
    if character == " ":
        return SPACE
    return {"N": DIGIT, "P": PUNCTUATION, "S": PUNCTUATION}.get(category[0], 0)


def _in_vocabulary(characters: Iterable[str], ids: Mapping[str, int]) -> list[int]:
    return [ids[character] for character in characters if character in ids]


def _cases(letters: Mapping[str, int], ids: Mapping[str, int]) -> dict[int, list[int]]:
    flipped = {id_: letter.swapcase() for letter, id_ in letters.items() if letter.swapcase() != letter}
    return {id_: _in_vocabulary([letter], ids) for id_, letter in flipped.items()}


def _adjacent(letters: Mapping[str, int], keys: Mapping[str, str]) -> dict[int, list[int]]:
    """Maps each letter to the letters on adjacent keys, in its case."""

    def in_case(letter: str) -> str:
        """The letters on the keys next to a letter, in its case."""
        neighbors = keys.get(letter.lower(), "")
        return "".join(key.upper() for key in neighbors) if letter.isupper() else neighbors

    return {id_: _in_vocabulary(in_case(letter), letters) for letter, id_ in letters.items()}


def _scripts(letters: Mapping[str, int]) -> dict[int, list[int]]:
    """Maps each letter to the letters of its script and case: those with a key; all if the script has no keyboard."""
    groups: dict[tuple[str, bool], list[int]] = {}
    with_key = plain_letters()
    scripts = {_script(letter)[0] for letter in with_key}
    for letter, id_ in letters.items():
        group = groups.setdefault(_script(letter), [])
        if letter.lower() in with_key or _script(letter)[0] not in scripts:
            group.append(id_)
    return {id_: groups[_script(letter)] for letter, id_ in letters.items()}


def _script(letter: str) -> tuple[str, bool]:
    return script(letter), letter.isupper()


def _symbols(character: str, ids: Mapping[str, int]) -> tuple[int, ...]:
    """The encoding of a character: its id, or the ids of its bytes."""
    if character in ids:
        return (ids[character],)
    return tuple(FIRST_BYTE + byte for byte in character.encode())


def _patterns(
    pairs: Iterable[tuple[str, str]], ids: Mapping[str, int], encode: Callable[[str], tuple[int, ...]]
) -> Lookup:
    table: dict[tuple[int, ...], dict[tuple[int, ...], int]] = {}
    for pattern, replacement in pairs:
        assert len(pattern) <= MAX_PATTERN
        if all(character in ids for character in pattern):
            table.setdefault(encode(pattern), {})[encode(replacement)] = 1
    return Lookup(table)


def _words(misspellings: Spellings, ids: Mapping[str, int], encode: Callable[[str], tuple[int, ...]]) -> Lookup:
    """The table of words and misspellings, each in lowercase, capitalized, and in uppercase."""
    table: dict[tuple[int, ...], dict[tuple[int, ...], int]] = {}
    for word, spellings in misspellings.items():
        highest = max(spellings.values())
        for change in (str.lower, str.capitalize, str.upper):
            form = change(word)
            if all(character in ids for character in form):
                weights = table.setdefault(encode(form), {})
                for spelling, count in spellings.items():
                    weights.setdefault(encode(change(spelling)), max(1, round(_MAX_WEIGHT * count / highest)))
    return Lookup(table)
