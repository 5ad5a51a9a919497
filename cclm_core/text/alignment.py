"""Aligns two versions of a text whose spelling differs, by sequences of four keys that occur once in each.

The key of a word is the same for most spellings of it, so an anchor is a place where the versions certainly correspond.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import TypeVar

_LENGTH = 4  # keys in a gram
_LONGEST_GAP = 3  # words between two anchors that may be paired one by one
_MIN_SIMILARITY = 0.5

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Gram = tuple[str, ...]


@lru_cache(maxsize=1 << 16)
def spelling_key(word: str) -> str:
    """The key of an English word, the same for most of its spellings since 1600.

    >>> [spelling_key(word) for word in ("loue", "love", "Iohn", "John", "Hellen", "selfe", "tragedie", "tragedy")]
    ['lou', 'lou', 'iohn', 'iohn', 'helen', 'self', 'tragedi', 'tragedi']
    """
    key = word.casefold().replace("vv", "w").replace("æ", "e").replace("ae", "e").replace("-", "").replace("'", "")
    key = key.replace("j", "i").replace("v", "u").replace("y", "i").replace("ie", "i").replace("ck", "k")
    key = re.sub(r"(.)\1+", r"\1", key)
    return key[:-1] if key.endswith("e") and len(key) > 2 else key


def grams(keys: Sequence[str]) -> Iterator[Gram]:
    """All sequences of four consecutive keys, in order."""
    return (tuple(keys[start : start + _LENGTH]) for start in range(len(keys) - _LENGTH + 1))


def unambiguous(pairs: Iterable[tuple[K, V]]) -> dict[K, V]:
    """The mapping that pairs of a key and a value define, without the keys that have several values.

    >>> unambiguous([("a", 1), ("b", 2), ("b", 2), ("a", 3)])
    {'b': 2}
    """
    values: dict[K, V] = {}
    ambiguous: set[K] = set()
    for key, value in pairs:
        if values.setdefault(key, value) != value:
            ambiguous.add(key)
    return {key: value for key, value in values.items() if key not in ambiguous}


def similar(first: str, second: str) -> bool:
    """Whether at least half of the characters of two words match (Ratcliff and Obershelp)."""
    return SequenceMatcher(None, first, second).ratio() >= _MIN_SIMILARITY


def corresponding_words(
    words: Sequence[str], others: Sequence[str], key: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Pairs of corresponding words, in the order of the text.

    Words correspond where four keys in a row occur once in each version. Between two such places they correspond
    if both versions have the same number of words there, at most three, and the words are similar.

    Args:
        words, others: the words of both versions.
        key: maps most spellings of a word to the same string, such as `spelling_key`.

    >>> text = "she doth teach the torches to burn bright"
    >>> folio = "shee doth teach the Torches to burne bright"
    >>> list(corresponding_words(text.split(), folio.split(), lambda word: word.lower()[:2]))[-2:]
    [('burn', 'burne'), ('bright', 'bright')]
    """
    positions, other_positions = _unique_grams(words, key), _unique_grams(others, key)
    anchors = [(start, other_positions[gram]) for gram, start in positions.items() if gram in other_positions]
    end, other_end = 0, 0
    for start, other in sorted(anchors):
        if min(start - end, other - other_end) < 0 and other - start != other_end - end:
            continue  # overlaps the previous anchor with another shift
        if start > end:
            yield from _gap_pairs(words[end:start], others[other_end:other])
            end, other_end = start, other
        for offset in range(end - start, _LENGTH):
            yield words[start + offset], others[other + offset]
        end, other_end = start + _LENGTH, other + _LENGTH


def _unique_grams(words: Sequence[str], key: Callable[[str], str]) -> dict[Gram, int]:
    """The grams that occur once, with their positions."""
    return unambiguous((gram, start) for start, gram in enumerate(grams([key(word) for word in words])))


def _gap_pairs(words: Sequence[str], others: Sequence[str]) -> Iterator[tuple[str, str]]:
    if 0 < len(words) == len(others) <= _LONGEST_GAP:
        for word, other in zip(words, others, strict=True):
            if similar(word.lower(), other.lower()):
                yield word, other
