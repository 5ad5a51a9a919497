"""Symbol tables: what noise may do with each symbol, looked up by id at array speed.

The same kernels serve encoded corpora in training and strings, since both are arrays of symbols with a table.
Special ids, and the bytes of characters outside the alphabet, are never touched.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from cclm_core.noise.layouts import neighbours
from cclm_core.text.vocabulary import FIRST_BYTE, FIRST_CHARACTER, Preprocessor

# Flags of a symbol. Noise acts on letters; a letter is left alone where a cluster would be cut in half.
LETTER = 1
EXTENDS = 2  # belongs to what stands before it: a combining mark, a conjoining vowel
LINKS = 4  # joins what stands before it to what stands behind: ZWJ, virama

NONE = -1


@dataclass(frozen=True)
class Choices:
    """Alternatives of each symbol: those of symbol s are `values[starts[s] : starts[s] + counts[s]]`."""

    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]

    def of(self, symbol: int) -> set[int]:
        """The alternatives of one symbol."""
        return set(self.values[self.starts[symbol] :][: self.counts[symbol]].tolist())


@dataclass(frozen=True)
class SymbolTables:
    """What noise may do with each of V symbols.

    Attributes:
        flags: (V,) uint8, of LETTER, EXTENDS and LINKS.
        case: (V,) the same letter in the other case, or NONE.
        keys: letters on the keys beside it, in its own case.
        letters: letters of its own script and case, itself included.
    """

    flags: npt.NDArray[np.uint8]
    case: npt.NDArray[np.int64]
    keys: Choices
    letters: Choices

    @classmethod
    def for_preprocessor(cls, preprocessor: Preprocessor) -> "SymbolTables":
        """The tables for the ids of a vocabulary; noise stays inside its alphabet."""
        alphabet = preprocessor.alphabet
        ids = {character: FIRST_CHARACTER + rank for rank, character in enumerate(alphabet)}
        flags = np.zeros(preprocessor.num_ids, dtype=np.uint8)
        # A combining mark outside the alphabet arrives as bytes; which one it is, is not looked at.
        flags[FIRST_BYTE + 0x80 : FIRST_CHARACTER] = EXTENDS
        case = np.full(preprocessor.num_ids, NONE, dtype=np.int64)
        keys: dict[int, list[int]] = {}
        groups: dict[str, list[int]] = {}
        for character, id_ in ids.items():
            flags[id_] = _flags(character)
            if flags[id_] == LETTER:
                case[id_] = ids.get(character.swapcase(), NONE) if character.swapcase() != character else NONE
                keys[id_] = [ids[key] for key in _keys(character) if key in ids]
                groups.setdefault(_group(character), []).append(id_)
        return cls(flags, case, _choices(keys, len(flags)), _grouped(list(groups.values()), len(flags)))


def _flags(character: str) -> int:
    if character == "\u200d" or unicodedata.combining(character) == 9:
        return EXTENDS | LINKS
    point = ord(character)
    conjoining = 0x1160 <= point <= 0x11FF or 0xD7B0 <= point <= 0xD7FF  # Hangul vowels and finals
    if conjoining or unicodedata.category(character).startswith("M") or character in "\u200c\u0e33\u0eb3":
        return EXTENDS
    return LETTER if character.isalpha() else 0


def _keys(character: str) -> list[str]:
    near = _layout().get(character.lower(), "")
    return [key.upper() if character.isupper() else key for key in near]


@cache
def _layout() -> dict[str, str]:
    return neighbours()


def _group(character: str) -> str:
    """Script and case, e.g. `LATIN True`; the script is the first word of a letter's name."""
    return f"{unicodedata.name(character, '').split(' ')[0]} {character.isupper()}"


def _choices(alternatives: dict[int, list[int]], num_symbols: int) -> Choices:
    counts = np.zeros(num_symbols, dtype=np.int64)
    values: list[int] = []
    starts = np.zeros(num_symbols, dtype=np.int64)
    for symbol, options in alternatives.items():
        starts[symbol], counts[symbol] = len(values), len(options)
        values.extend(options)
    return Choices(starts, counts, np.array(values, dtype=np.int64))


def _grouped(groups: list[list[int]], num_symbols: int) -> Choices:
    """Symbols of a group share its one list of alternatives."""
    starts, counts = np.zeros(num_symbols, dtype=np.int64), np.zeros(num_symbols, dtype=np.int64)
    start = 0
    for group in groups:
        starts[group], counts[group] = start, len(group)
        start += len(group)
    return Choices(starts, counts, np.array([id_ for group in groups for id_ in group], dtype=np.int64))
