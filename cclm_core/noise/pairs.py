"""Words that correspond in two spellings of the same text, found by what is spelt alike around them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher

_ANCHOR = 4  # words in a row that stand once in each version and have the same keys
_LONGEST_GAP = 3  # words between two anchors that may be paired one by one
_LEAST_LIKENESS = 0.5


def corresponding(
    words: Sequence[str], spellings: Sequence[str], key: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Pairs of a word and its other spelling, in the order of the text.

    Where four keys in a row stand once in each version, the words correspond. So do as many words between two such
    places as there are in both versions, if they are few and alike.

    Args:
        words, spellings: the words of both versions.
        key: what is the same for most spellings of a word.

    >>> text = "she doth teach the torches to burn bright"
    >>> folio = "shee doth teach the Torches to burne bright"
    >>> list(corresponding(text.split(), folio.split(), lambda word: word.lower()[:2]))[-2:]
    [('burn', 'burne'), ('bright', 'bright')]
    """
    keys, other_keys = [key(word) for word in words], [key(word) for word in spellings]
    places, other_places = _once(keys), _once(other_keys)
    anchors = [(place, other_places[gram]) for gram, place in places.items() if gram in other_places]
    end, other_end = 0, 0
    for place, other in sorted(anchors):
        if min(place - end, other - other_end) < 0 and other - place != other_end - end:
            continue  # overlaps what was paired before, but not in step with it
        if place > end:
            yield from _between(words[end:place], spellings[other_end:other])
            end, other_end = place, other
        for offset in range(end - place, _ANCHOR):
            yield words[place + offset], spellings[other + offset]
        end, other_end = place + _ANCHOR, other + _ANCHOR


def _once(keys: Sequence[str]) -> dict[tuple[str, ...], int]:
    grams = [tuple(keys[place : place + _ANCHOR]) for place in range(len(keys) - _ANCHOR + 1)]
    counts = Counter(grams)
    return {gram: place for place, gram in enumerate(grams) if counts[gram] == 1}


def _between(words: Sequence[str], spellings: Sequence[str]) -> Iterator[tuple[str, str]]:
    if 0 < len(words) == len(spellings) <= _LONGEST_GAP:
        for word, spelling in zip(words, spellings, strict=True):
            if SequenceMatcher(None, word.lower(), spelling.lower()).ratio() >= _LEAST_LIKENESS:
                yield word, spelling
