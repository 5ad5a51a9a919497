"""Aligns two versions of a text with different spelling.

The anchors are sequences of four spelling keys that occur exactly once in each version. Most spellings of a word have
the same key.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import TypeVar

_LENGTH = 4  # keys per gram
_LONGEST_GAP = 3  # words between two anchors that are paired one by one
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
    """Yields all sequences of four consecutive keys."""
    return (tuple(keys[start : start + _LENGTH]) for start in range(len(keys) - _LENGTH + 1))


def unambiguous(pairs: Iterable[tuple[K, V]]) -> dict[K, V]:
    """Maps each key to its value; drops keys with different values.

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
    left: Sequence[str], right: Sequence[str], key: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Yields pairs of corresponding words, in order.

    Words correspond if they are in a sequence of four keys that occurs exactly once in each version. Between two such
    sequences, similar words correspond if both versions have the same number of words there, at most three.

    Args:
        left, right: the words of the two versions.
        key: maps most spellings of a word to the same string, such as `spelling_key`.

    >>> text = "she doth teach the torches to burn bright"
    >>> folio = "shee doth teach the Torches to burne bright"
    >>> list(corresponding_words(text.split(), folio.split(), lambda word: word.lower()[:2]))[-2:]
    [('burn', 'burne'), ('bright', 'bright')]
    """
    left_grams, right_grams = _unique_grams(left, key), _unique_grams(right, key)
    anchors = [(start, right_grams[gram]) for gram, start in left_grams.items() if gram in right_grams]
    left_end, right_end = 0, 0
    for left_start, right_start in sorted(anchors):
        shift = right_start - left_start
        if min(left_start - left_end, right_start - right_end) < 0 and shift != right_end - left_end:
            continue  # overlaps the previous anchor with a different shift
        if left_start > left_end:
            yield from _gap_pairs(left[left_end:left_start], right[right_end:right_start])
            left_end, right_end = left_start, right_start
        for offset in range(left_end - left_start, _LENGTH):
            yield left[left_start + offset], right[right_start + offset]
        left_end, right_end = left_start + _LENGTH, right_start + _LENGTH


def _unique_grams(words: Sequence[str], key: Callable[[str], str]) -> dict[Gram, int]:
    """Gram -> position, for the grams that occur exactly once."""
    return unambiguous((gram, start) for start, gram in enumerate(grams([key(word) for word in words])))


def _gap_pairs(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[str, str]]:
    if 0 < len(left) == len(right) <= _LONGEST_GAP:
        for left_word, right_word in zip(left, right, strict=True):
            if similar(left_word.lower(), right_word.lower()):
                yield left_word, right_word
