"""Finds what corresponds in two editions of a play whose spelling differs: speakers and names.

A word's key leaves out what the Folio spells otherwise (`loue` and `love`, `Iohn` and `John`, `selfe` and `self` have
the same one). Where four keys in a row stand once in each edition, the places correspond: the speakers that say them
are the same person, and what stands between two keys on either side is the same word, or the same name.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from cclm_core.datasets.plays.speeches import Speech

_WORD = re.compile(r"[A-Za-zæÆ'-]+")
_LENGTH = 4
_LEAST_SHARE = 0.6
_LEAST_LIKENESS = 0.5


@lru_cache(maxsize=1 << 16)
def spelling_key(word: str) -> str:
    """The key of a word, the same for most spellings of it.

    >>> [spelling_key(word) for word in ("loue", "love", "Iohn", "John", "Hellen", "selfe", "tragedie", "tragedy")]
    ['lou', 'lou', 'iohn', 'iohn', 'helen', 'self', 'tragedi', 'tragedi']
    """
    key = word.casefold().replace("vv", "w").replace("æ", "e").replace("ae", "e").replace("-", "").replace("'", "")
    key = key.replace("j", "i").replace("v", "u").replace("y", "i").replace("ie", "i").replace("ck", "k")
    key = re.sub(r"(.)\1+", r"\1", key)
    return key[:-1] if key.endswith("e") and len(key) > 2 else key


class Alignment:
    """What corresponds in the speeches of a play's two editions, the one in modern spelling and the Folio's."""

    def __init__(self, modern: Sequence[Speech], folio: Sequence[Speech]) -> None:
        self._modern, self._folio = _keyed(modern), _keyed(folio)

    def shared(self) -> float:
        """The share of the Folio's four-word sequences that the other edition has too: near 0 for different plays."""
        known = {gram for _, _, keys in self._modern for gram in _grams(keys)}
        grams = [gram for _, _, keys in self._folio for gram in _grams(keys)]
        return sum(gram in known for gram in grams) / max(1, len(grams))

    def speakers(self) -> dict[str, str]:
        """For each prefix in the Folio, the modern edition's speaker of the same lines, where it is clear who."""
        said_by: dict[tuple[str, ...], str | None] = {}
        for speaker, _, keys in self._modern:
            for gram in _grams(keys):
                said_by[gram] = speaker if said_by.get(gram, speaker) == speaker else None
        votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for prefix, _, keys in self._folio:
            votes[prefix].update(found for gram in _grams(keys) if (found := said_by.get(gram)))
        matches = {}
        for prefix, counts in votes.items():
            best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:1]
            if best and best[0][1] >= max(2, _LEAST_SHARE * counts.total()):
                matches[prefix] = best[0][0]
        return matches

    def names(self, names: Iterable[str]) -> frozenset[str]:
        """The Folio's spellings of `names`, in lower case: of equal key, or alike and between the same words."""
        wanted = {spelling_key(name) for name in names}
        between: dict[tuple[str, ...], str | None] = {}
        for _, _, keys in self._modern:
            for index, key in enumerate(keys):
                if key in wanted and (context := _context(keys, index)):
                    between[context] = key if between.get(context, key) == key else None
        found: set[str] = set()
        for _, words, keys in self._folio:
            for index, (word, key) in enumerate(zip(words, keys, strict=True)):
                if not word[0].isupper():
                    continue
                name = between.get(_context(keys, index))
                if key in wanted or (name and name[0] == key[:1] and _alike(name, key)):
                    found.add(word)
        return frozenset(re.sub(r"'[a-z]*$", "", word.casefold()) for word in found)


def _keyed(speeches: Sequence[Speech]) -> list[tuple[str, list[str], list[str]]]:
    """Speaker, words and their keys of each speech."""
    words = [_WORD.findall(speech.text) for speech in speeches]
    return [
        (speech.speaker, spoken, [spelling_key(word) for word in spoken])
        for speech, spoken in zip(speeches, words, strict=True)
    ]


def _grams(keys: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return (tuple(keys[index : index + _LENGTH]) for index in range(len(keys) - _LENGTH + 1))


def _context(keys: Sequence[str], index: int) -> tuple[str, ...]:
    """The two keys on either side; empty too near to an end."""
    return (*keys[index - 2 : index], *keys[index + 1 : index + 3]) if 2 <= index < len(keys) - 2 else ()


def _alike(first: str, second: str) -> bool:
    return SequenceMatcher(None, first, second).ratio() >= _LEAST_LIKENESS
