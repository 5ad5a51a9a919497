"""The baseline for entity tags: looks up the names that are tagged in the training documents.

>>> names = NameDictionary(longest=2)
>>> names.fit([("Tom met Ann Lee.", [(0, 3, "PERSON"), (8, 15, "PERSON")])])
>>> names.find("Ann Lee, not Tom!")
[(0, 7, 'PERSON'), (13, 16, 'PERSON')]
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.baselines.base import TagBaseline
from cclm_core.evaluation.spans import TextSpans
from cclm_core.runtime.config import Config
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
    """Finds names of at most `longest` words that are entities in at least half of their occurrences in training."""

    def __init__(self, longest: int = 4, max_documents: int = 50_000) -> None:
        self.longest, self.max_documents = longest, max_documents
        self._labels: dict[str, Counter[str]] = {}
        self._occurrences: Counter[str] = Counter()

    def fit(self, documents: Iterable[tuple[str, TextSpans]]) -> None:
        """Counts the entities of each text, and the occurrences of all word sequences that could be names."""
        for text, entities in documents:
            bounds = [match.span() for match in _WORD.finditer(text)]
            for first in range(len(bounds)):
                for last in range(first, min(first + self.longest, len(bounds))):
                    self._occurrences[text[bounds[first][0] : bounds[last][1]]] += 1
            for start, end, label in entities:
                self._labels.setdefault(text[start:end], Counter())[label] += 1

    def find(self, text: str) -> TextSpans:
        """The names in `text`, matched from left to right, longest match first."""
        bounds = [match.span() for match in _WORD.finditer(text)]
        spans, word = [], 0
        while word < len(bounds):
            for last in range(min(word + self.longest, len(bounds)) - 1, word - 1, -1):
                start, end = bounds[word][0], bounds[last][1]
                label = self._label(text[start:end])
                if label:
                    spans.append((start, end, label))
                    word = last
                    break
            word += 1
        return spans

    def _label(self, name: str) -> str | None:
        labels = self._labels.get(name)
        if not labels or 2 * labels.total() < self._occurrences[name]:
            return None
        return min(labels, key=lambda label: (-labels[label], label))
