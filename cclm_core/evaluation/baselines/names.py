"""The baseline for entity tags: looks up the names that are tagged in the training documents.

>>> names = NameDictionary(longest=2)
>>> names.fit([("Tom met Ann Lee.", [(0, 3, "PERSON"), (8, 15, "PERSON")])])
>>> names.find("Ann Lee, not Tom!")
[(0, 7, 'PERSON'), (13, 16, 'PERSON')]
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.baselines.base import TagBaseline
from cclm_core.evaluation.spans import MAX_INSIDE_WORDS, TextSpans, spans_inside_words
from cclm_core.runtime.config import Config
from cclm_core.text.scripts import has_unspaced
from cclm_core.text.words import RUN

_WORD = re.compile(RUN)  # unlike `words.WORD`, it splits at apostrophes: the name in "Ann's" is Ann


class DictionaryConfig(Config):
    """Lookup of the names that are tagged in the training documents."""

    baseline: Literal["dictionary"] = "dictionary"
    documents: int = Field(default=50_000, ge=0, description="maximum number of training documents to read")
    longest: int = Field(default=4, ge=1, description="maximum number of words in a name")

    def build(self, _context: EncodedCorpus) -> "NameDictionary":
        """The unfitted baseline."""
        return NameDictionary(self.longest, self.documents)


class NameDictionary(TagBaseline):
    """Finds names of at most `longest` words that are entities in at least half of their occurrences in training.

    Names in scripts without spaces are found anywhere. If training documents tag names inside words more often than
    `MAX_INSIDE_WORDS`, these names are found inside words, too.
    """

    def __init__(self, longest: int = 4, max_documents: int = 50_000) -> None:
        self.longest, self.max_documents = longest, max_documents
        self._labels: dict[str, Counter[str]] = {}
        self._occurrences: Counter[str] = Counter()
        self._inner = _Inner()

    def fit(self, documents: Iterable[tuple[str, TextSpans]]) -> None:
        """Counts the entities of each text, and the occurrences of all word sequences that could be names."""
        texts: list[str] = []
        inside: Counter[str] = Counter()
        for text, entities in documents:
            texts.append(text)
            bounds = [match.span() for match in _WORD.finditer(text)]
            for first in range(len(bounds)):
                for last in range(first, min(first + self.longest, len(bounds))):
                    self._occurrences[text[bounds[first][0] : bounds[last][1]]] += 1
            for start, end, label in entities:
                name = text[start:end]
                self._labels.setdefault(name, Counter())[label] += 1
                if has_unspaced(name):
                    self._inner.add(name)
                elif spans_inside_words(text, [(start, end, label)]):
                    inside[name] += 1
        if inside.total() > MAX_INSIDE_WORDS * sum(labels.total() for labels in self._labels.values()):
            for name in inside:
                self._inner.add(name)
        if self._inner.names:
            counts = Counter(name for text in texts for _, name in self._inner.occurrences(text))
            self._occurrences.update({name: counts[name] - self._occurrences[name] for name in self._inner.names})

    def find(self, text: str) -> TextSpans:
        """The names in `text`, matched from left to right, longest match first."""
        names: dict[int, str] = {}  # the longest name at each start
        for start, name in self._inner.occurrences(text):
            if self._label(name) and len(name) > len(names.get(start, "")):
                names[start] = name
        for start, name in self._whole_words(text):
            if len(name) > len(names.get(start, "")):
                names[start] = name
        spans: TextSpans = []
        for start, name in sorted(names.items()):
            label = self._label(name)
            if label and (not spans or start >= spans[-1][1]):
                spans.append((start, start + len(name), label))
        return spans

    def _whole_words(self, text: str) -> Iterator[tuple[int, str]]:
        """The longest known name that starts at each word."""
        bounds = [match.span() for match in _WORD.finditer(text)]
        for word, (start, _) in enumerate(bounds):
            for last in range(min(word + self.longest, len(bounds)) - 1, word - 1, -1):
                name = text[start : bounds[last][1]]
                if self._label(name):
                    yield start, name
                    break

    def _label(self, name: str) -> str | None:
        labels = self._labels.get(name)
        if not labels or 2 * labels.total() < self._occurrences[name]:
            return None
        return min(labels, key=lambda label: (-labels[label], label))


class _Inner:
    """Names that are found inside words: every occurrence of their characters."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._lengths: dict[str, set[int]] = {}  # of the names, by their first character

    def add(self, name: str) -> None:
        """Adds a name, which must not be empty."""
        self.names.add(name)
        self._lengths.setdefault(name[0], set()).add(len(name))

    def occurrences(self, text: str) -> Iterator[tuple[int, str]]:
        """Every occurrence of a name: where it starts, and the name."""
        for start, character in enumerate(text) if self.names else ():
            for length in self._lengths.get(character, ()):
                name = text[start : start + length]
                if name in self.names:
                    yield start, name
