"""What is known of words: how often each was read, so that a likely edit to no word loses to one that makes a word."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from cclm_core.text.word_targets import FILE, OTHER, WordTargets
from cclm_core.text.words import LETTER, WORD

_LETTERS = rf"{LETTER}(?:(?![A-Z]){LETTER})*"  # no capital after the first letter, so that names in code do not match
_OPENING, _CLOSING = r"""["'\u2018\u2019\u201c\u201d(\[*_`]*""", r"""["'\u2018\u2019\u201c\u201d)\]*_.,:;!?`]*\s*$"""
_PLAIN = re.compile(f"{_OPENING}{_LETTERS}(?:['\u2019/-]{_LETTERS})*{_CLOSING}")


class KnownWords:
    """The words of a text and their counts, whatever their case.

    >>> words = KnownWords({"the": 8, "cat": 2})
    >>> words.knows("The cat,"), words.knows("teh")
    (True, False)
    >>> round(words.log_probability("the"), 3), words.log_probability("teh") < words.log_probability("cat")
    (-0.105, True)
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts: dict[str, int] = {}
        for word, count in counts.items():
            self._counts[word.lower()] = self._counts.get(word.lower(), 0) + count
        self._total = max(1, sum(self._counts.values()))

    @classmethod
    def of(cls, targets: WordTargets | None) -> Self | None:
        """The words of a vocabulary's targets; None where it has none, or pieces of words, or nobody counted them."""
        if targets is None or targets.counts is None or targets.config.kind != "words":
            return None
        pairs = zip(targets.names, targets.counts.tolist(), strict=True)
        return cls({word: count for number, (word, count) in enumerate(pairs) if number != OTHER and count})

    @classmethod
    def beside(cls, component: Path) -> Self | None:
        """The words that the training of a component saved in its folder; None where it saved none."""
        return cls.of(WordTargets.load(component / FILE)) if (component / FILE).is_file() else None

    def knows(self, piece: str) -> bool:
        """Whether every word of a piece of text is known; a piece without words is."""
        return not self.unknown(piece)

    def unknown(self, piece: str) -> int:
        """How many words of a piece of text are not known."""
        return sum(word not in self._counts for word in self._words(piece))

    def log_probability(self, piece: str) -> float:
        """The natural logarithm of the product of the words' shares of the text; one that is unknown counts as once."""
        return sum(math.log((self._counts.get(word, 0) + 1) / self._total) for word in self._words(piece))

    def _words(self, piece: str) -> Iterable[str]:
        return WORD.findall(piece.lower())


def has_word(text: str) -> bool:
    """Whether there is a word in a text, known or not."""
    return WORD.search(text) is not None


def is_plain(piece: str) -> bool:
    """Whether a piece of text is a word with its punctuation, rather than a number, an abbreviation or a name in code.

    >>> [piece for piece in ("(The", "re-use, ", "fooBar", "PEP", "x_1", "3rd") if is_plain(piece)]
    ['(The', 're-use, ']
    """
    return _PLAIN.match(piece) is not None
