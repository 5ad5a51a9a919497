"""Matches the speakers and names of two editions of a play with different spelling.

Words are compared by spelling keys (see `text.alignment`). A sequence of four keys that only one speaker of an edition
uses identifies this speaker. Words with the same two keys on either side are the same word or name.
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
    """Matches the speeches of a play's modern edition with those of its Folio edition."""

    def __init__(self, modern: Sequence[Speech], folio: Sequence[Speech]) -> None:
        self._modern, self._folio = _keyed(modern), _keyed(folio)

    def shared(self) -> float:
        """Returns the share of the Folio's four-key sequences that occur in both; near 0 for different plays."""
        modern = {gram for _, _, keys in self._modern for gram in grams(keys)}
        folio = [gram for _, _, keys in self._folio for gram in grams(keys)]
        return sum(gram in modern for gram in folio) / max(1, len(folio))

    def speakers(self) -> dict[str, str]:
        """Maps each speaker prefix of the Folio to the modern speaker of the same lines, if most lines agree."""
        speaker_of = unambiguous((gram, speaker) for speaker, _, keys in self._modern for gram in grams(keys))
        votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for prefix, _, keys in self._folio:
            votes[prefix].update(speaker for gram in grams(keys) if (speaker := speaker_of.get(gram)))
        matches = {}
        for prefix, counts in votes.items():
            best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:1]
            if best and best[0][1] >= max(2, _MIN_SHARE * counts.total()):
                matches[prefix] = best[0][0]
        return matches

    def names(self, names: Iterable[str]) -> frozenset[str]:
        """Returns the Folio's spellings of `names`, in lower case.

        A spelling has the key of a name, or has a similar key and occurs between the same words.
        """
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
    """Returns the speaker, the words and the keys of the words of each speech."""
    words_of = [_WORD.findall(speech.text) for speech in speeches]
    return [
        (speech.speaker, words, [spelling_key(word) for word in words])
        for speech, words in zip(speeches, words_of, strict=True)
    ]


def _context(keys: Sequence[str], index: int) -> tuple[str, ...]:
    """Returns the two keys on either side; empty near the start and the end."""
    return (*keys[index - 2 : index], *keys[index + 1 : index + 3]) if 2 <= index < len(keys) - 2 else ()
