"""The entity baseline: names that training documents tag, found again by lookup.

>>> names = NameDictionary(longest=2)
>>> names.learn("Tom met Ann Lee.", [(0, 3, "PERSON"), (8, 15, "PERSON")])
>>> names.find("Ann Lee, not Tom!")
[(0, 7, 'PERSON'), (13, 16, 'PERSON')]
"""

import re
from collections import Counter
from collections.abc import Iterable

from cclm_core.text.words import RUN

_WORD = re.compile(RUN)  # apostrophes separate, unlike in `words.WORD`: the name in "Ann's" is Ann


class NameDictionary:
    """Names of at most `longest` words that are entities in at least half of their places in the training texts."""

    def __init__(self, longest: int = 4) -> None:
        self.longest = longest
        self._labels: dict[str, Counter[str]] = {}
        self._places: Counter[str] = Counter()

    def learn(self, text: str, entities: Iterable[tuple[int, int, str]]) -> None:
        """Counts the entities of one text, and every other place where their names could stand."""
        bounds = [match.span() for match in _WORD.finditer(text)]
        for first in range(len(bounds)):
            for last in range(first, min(first + self.longest, len(bounds))):
                self._places[text[bounds[first][0] : bounds[last][1]]] += 1
        for start, end, label in entities:
            self._labels.setdefault(text[start:end], Counter())[label] += 1

    def find(self, text: str) -> list[tuple[int, int, str]]:
        """The names in `text`, from the left, the longest first."""
        bounds = [match.span() for match in _WORD.finditer(text)]
        found, word = [], 0
        while word < len(bounds):
            for last in range(min(word + self.longest, len(bounds)) - 1, word - 1, -1):
                start, end = bounds[word][0], bounds[last][1]
                label = self._label(text[start:end])
                if label:
                    found.append((start, end, label))
                    word = last
                    break
            word += 1
        return found

    def _label(self, name: str) -> str | None:
        labels = self._labels.get(name)
        if not labels or 2 * labels.total() < self._places[name]:
            return None
        return min(labels, key=lambda label: (-labels[label], label))
