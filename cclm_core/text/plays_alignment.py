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

from cclm_core.text.speeches import Speech

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


def same_play_share(modern: Sequence[Speech], folio: Sequence[Speech]) -> float:
    """The share of the Folio's four-word sequences that the other edition has too: 0 for different plays."""
    known = {gram for _, keys in _keyed(modern) for gram in _grams(keys)}
    grams = [gram for _, keys in _keyed(folio) for gram in _grams(keys)]
    return sum(gram in known for gram in grams) / max(1, len(grams))


def match_speakers(modern: Sequence[Speech], folio: Sequence[Speech]) -> dict[str, str]:
    """For each prefix in the Folio, the speaker in the modern edition who says the same lines, where it is clear."""
    said_by: dict[tuple[str, ...], str | None] = {}
    for speech, keys in _keyed(modern):
        for gram in _grams(keys):
            said_by[gram] = speech.speaker if said_by.get(gram, speech.speaker) == speech.speaker else None
    votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for speech, keys in _keyed(folio):
        votes[speech.speaker].update(speaker for gram in _grams(keys) if (speaker := said_by.get(gram)))
    matches = {}
    for prefix, counts in votes.items():
        best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:1]
        if best and best[0][1] >= max(2, _LEAST_SHARE * counts.total()):
            matches[prefix] = best[0][0]
    return matches


def match_names(modern: Sequence[Speech], folio: Sequence[Speech], names: Iterable[str]) -> frozenset[str]:
    """The Folio's spellings of `names`, in lower case: of equal key, or alike and between the same words."""
    wanted = {spelling_key(name) for name in names}
    between: dict[tuple[str, ...], str | None] = {}
    for _, keys in _keyed(modern):
        for context, key, _ in _contexts(keys, keys):
            if key in wanted:
                between[context] = key if between.get(context, key) == key else None
    found: set[str] = set()
    for speech, keys in _keyed(folio):
        words = _WORD.findall(speech.text)
        found.update(word for word, key in zip(words, keys, strict=True) if word[0].isupper() and key in wanted)
        for context, key, word in _contexts(keys, words):
            name = between.get(context)
            if name and word[0].isupper() and name[0] == key[:1] and _alike(name, key):
                found.add(word)
    return frozenset(re.sub(r"'[a-z]*$", "", word.casefold()) for word in found)


def _keyed(speeches: Sequence[Speech]) -> Iterable[tuple[Speech, list[str]]]:
    for speech in speeches:
        yield speech, [spelling_key(word) for word in _WORD.findall(speech.text)]


def _grams(keys: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return (tuple(keys[index : index + _LENGTH]) for index in range(len(keys) - _LENGTH + 1))


def _contexts(keys: Sequence[str], words: Sequence[str]) -> Iterable[tuple[tuple[str, ...], str, str]]:
    """Each word with its key and the two keys on either side."""
    for index in range(2, len(keys) - 2):
        yield (*keys[index - 2 : index], *keys[index + 1 : index + 3]), keys[index], words[index]


def _alike(first: str, second: str) -> bool:
    return SequenceMatcher(None, first, second).ratio() >= _LEAST_LIKENESS
