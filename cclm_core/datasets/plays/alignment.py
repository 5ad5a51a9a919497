"""Finds the speakers and names that correspond in two editions of a play whose spelling differs.

Four keys in a row (see `text.alignment`) that only one speaker of an edition says identify this speaker. A word between
the same two keys on either side is the same word, or the same name.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from cclm_core.datasets.plays.speeches import Speech
from cclm_core.text.alignment import grams, similar, spelling_key, unambiguous

# Unlike in `text.words.WORD`, hyphens join words: the editions hyphenate differently, and keys omit hyphens.
_WORD = re.compile(r"[A-Za-zæÆ'-]+")
_MIN_SHARE = 0.6


class Alignment:
    """What corresponds in the speeches of a play's two editions, the one in modern spelling and the Folio's."""

    def __init__(self, modern: Sequence[Speech], folio: Sequence[Speech]) -> None:
        self._modern, self._folio = _keyed(modern), _keyed(folio)

    def shared(self) -> float:
        """The share of the Folio's four-word sequences that the other edition has too: near 0 for different plays."""
        known = {gram for _, _, keys in self._modern for gram in grams(keys)}
        own = [gram for _, _, keys in self._folio for gram in grams(keys)]
        return sum(gram in known for gram in own) / max(1, len(own))

    def speakers(self) -> dict[str, str]:
        """For each prefix in the Folio, the modern edition's speaker of the same lines, if most lines agree."""
        said_by = unambiguous((gram, speaker) for speaker, _, keys in self._modern for gram in grams(keys))
        votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for prefix, _, keys in self._folio:
            votes[prefix].update(speaker for gram in grams(keys) if (speaker := said_by.get(gram)))
        matches = {}
        for prefix, counts in votes.items():
            best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:1]
            if best and best[0][1] >= max(2, _MIN_SHARE * counts.total()):
                matches[prefix] = best[0][0]
        return matches

    def names(self, names: Iterable[str]) -> frozenset[str]:
        """The Folio's spellings of `names`, in lower case: of equal key, or similar and between the same words."""
        name_keys = {spelling_key(name) for name in names}
        between = unambiguous(
            (context, key)
            for _, _, keys in self._modern
            for index, key in enumerate(keys)
            if key in name_keys and (context := _context(keys, index))
        )
        spellings: set[str] = set()
        for _, words, keys in self._folio:
            for index, (word, key) in enumerate(zip(words, keys, strict=True)):
                if not word[0].isupper():
                    continue
                name = between.get(_context(keys, index))
                if key in name_keys or (name and name[0] == key[:1] and similar(name, key)):
                    spellings.add(word)
        return frozenset(re.sub(r"'[a-z]*$", "", word.casefold()) for word in spellings)


def _keyed(speeches: Sequence[Speech]) -> list[tuple[str, list[str], list[str]]]:
    """Speaker, words and their keys of each speech."""
    words = [_WORD.findall(speech.text) for speech in speeches]
    return [
        (speech.speaker, spoken, [spelling_key(word) for word in spoken])
        for speech, spoken in zip(speeches, words, strict=True)
    ]


def _context(keys: Sequence[str], index: int) -> tuple[str, ...]:
    """The two keys on either side; empty near the start and the end."""
    return (*keys[index - 2 : index], *keys[index + 1 : index + 3]) if 2 <= index < len(keys) - 2 else ()
