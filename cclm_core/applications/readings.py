"""The readings of a piece of text: what may have been meant, and how likely each reading is."""

import heapq
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from cclm_core.objectives.denoise import NOTHING, UNKNOWN, classes
from cclm_core.text.vocabulary import FIRST_CHARACTER, Preprocessor
from cclm_core.text.word_targets import OTHER, WordTargets
from cclm_core.text.words import LETTER, WORD

_CHOICES = 8  # most likely classes that are considered at each place
_SETS = 100  # combinations of decisions that are considered for a piece
_CERTAIN = float(np.log(0.95))  # a piece of known words is skipped if it stays with this log-probability

# Weights of edits and words where words are known: edits are independent guesses about one letter each, so their
# product overstates what they tell. Chosen on one half of the natural misspellings of benchmarks/correcting.py.
_EDITS_WEIGHT, _WORDS_WEIGHT, _UNKNOWN_COST = 0.3, 0.3, 4.0

_LETTERS = rf"{LETTER}(?:(?![A-Z]){LETTER})*"  # no capital after the first letter, so that names in code do not match
_OPENING, _CLOSING = r"""["'\u2018\u2019\u201c\u201d(\[*_`]*""", r"""["'\u2018\u2019\u201c\u201d)\]*_.,:;!?`]*\s*$"""
_PLAIN = re.compile(f"{_OPENING}{_LETTERS}(?:['\u2019/-]{_LETTERS})*{_CLOSING}")


class KnownWords:
    """The words of a text and their counts, ignoring case: an edit that makes a word beats one that makes none.

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
        """The words among a vocabulary's targets; None without targets, with pieces of words, or without counts."""
        if targets is None or targets.counts is None or targets.config.kind != "words":
            return None
        pairs = zip(targets.names, targets.counts.tolist(), strict=True)
        return cls({word: count for number, (word, count) in enumerate(pairs) if number != OTHER and count})

    def knows(self, piece: str) -> bool:
        """Whether every word of a piece of text is known; true for a piece without words."""
        return not self.unknown(piece)

    def unknown(self, piece: str) -> int:
        """Number of words of a piece of text that are not known."""
        return sum(word not in self._counts for word in self._words(piece))

    def log_probability(self, piece: str) -> float:
        """Natural logarithm of the product of the relative frequencies of its words, with add-one smoothing."""
        return sum(math.log((self._counts.get(word, 0) + 1) / self._total) for word in self._words(piece))

    def _words(self, piece: str) -> Iterable[str]:
        return WORD.findall(piece.lower())


def has_word(text: str) -> bool:
    """Whether a text contains a word, known or not."""
    return WORD.search(text) is not None


def is_plain(piece: str) -> bool:
    """Whether a piece of text is a word with its punctuation, rather than a number, an abbreviation or a name in code.

    >>> [piece for piece in ("(The", "re-use, ", "fooBar", "PEP", "x_1", "3rd") if is_plain(piece)]
    ['(The', 're-use, ']
    """
    return _PLAIN.match(piece) is not None


class Option(NamedTuple):
    """An alternative decision at one place.

    Attributes:
        cost: log-probability of the most likely decision there minus that of this one, at least 0.
        place: index of the place.
        choice: index of the decision.
    """

    cost: float
    place: int
    choice: int


def cheapest(options: Sequence[Option], most: int = 10_000) -> Iterator[tuple[float, list[Option]]]:
    """Sets of options for different places in order of rising total cost, starting with the empty set.

    Args:
        options: in order of rising cost.
        most: maximum number of sets to consider.

    >>> a, b, c = Option(1.0, 0, 1), Option(1.5, 1, 1), Option(4.0, 0, 2)
    >>> [(cost, [(option.place, option.choice) for option in some]) for cost, some in cheapest([a, b, c], 4)]
    [(0.0, []), (1.0, [(0, 1)]), (1.5, [(1, 1)]), (2.5, [(0, 1), (1, 1)])]
    """
    yield 0.0, []
    # Each set leads to two others: with the option after its last one added, and with that option replacing its last.
    heap = [(options[0].cost, [0])] if options else []
    for _ in range(most - 1):
        if not heap:
            return
        cost, members = heapq.heappop(heap)
        selected = [options[index] for index in members]
        if len({option.place for option in selected}) == len(selected):
            yield cost, selected
        following = members[-1] + 1
        if following < len(options):
            step = options[following].cost
            heapq.heappush(heap, (cost + step, [*members, following]))
            heapq.heappush(heap, (cost + step - options[members[-1]].cost, [*members[:-1], following]))


class Reading(NamedTuple):
    """What may have been meant by a piece, with its log-probability up to a constant."""

    text: str
    score: float


class Decisions(NamedTuple):
    """The predictions of a model for the ids of a text.

    Attributes:
        ids: (N,) the ids, starting with an anchor, after which characters can be missing too.
        scores: (N, 2, C) log-probabilities of the correct class at each id, and of the class missing after it.
        usual: (N, 2) the classes that leave the text unchanged; UNKNOWN where there is no decision.
    """

    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    usual: npt.NDArray[np.int64]

    @classmethod
    def of(cls, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> "Decisions":
        """Marks and bytes stay unchanged, and only the anchor among them can have something inserted after it."""
        seen = classes(ids)
        usual = np.stack([seen, np.where(seen == UNKNOWN, UNKNOWN, NOTHING)], axis=1)
        usual[0] = UNKNOWN, NOTHING
        return cls(ids, scores, usual)

    def at(self, places: npt.NDArray[np.int64]) -> "Decisions":
        """The predictions at some of the ids."""
        return Decisions(self.ids[places], self.scores[places], self.usual[places])

    def likelihood(self, selected: npt.NDArray[np.int64]) -> float:
        """The log-probability of the classes `selected` (N, 2), over all decisions."""
        taken = np.take_along_axis(self.scores, np.maximum(selected, 0)[..., None], axis=2)[..., 0]
        return float(taken[self.usual != UNKNOWN].sum())

    def sure(self, min_confidence: float) -> npt.NDArray[np.int64]:
        """(N, 2) the most likely class if its probability is at least `min_confidence`, otherwise the usual one."""
        is_sure = (self.scores.max(axis=2) >= np.log(max(min_confidence, 1e-9))) & (self.usual != UNKNOWN)
        return np.where(is_sure, self.scores.argmax(axis=2), self.usual)


class Piece(NamedTuple):
    """The readings of a piece of text, including the piece itself, most likely first; and the selected index."""

    readings: list[Reading]
    selected: int


def read(
    piece: str,
    decisions: Decisions,
    preprocessor: Preprocessor,
    words: KnownWords | None,
    min_confidence: float,
    thorough: bool,
) -> Piece:
    """Reads a piece of text.

    Args:
        piece: the text as written.
        decisions: the predictions for its ids.
        preprocessor: the vocabulary.
        words: known words: the most likely reading is chosen if its probability is at least `min_confidence`. Without
            them every edit is made whose probability is at least `min_confidence`.
        min_confidence: 0 to 1.
        thorough: whether to search for readings even if the piece is certainly correct.
    """
    staying = decisions.likelihood(decisions.usual)
    plain = Piece([Reading(piece, 0.0)], 0)
    if words is not None and not is_plain(piece):
        return plain
    if not thorough and staying > _CERTAIN and (words is None or words.knows(piece)):
        return plain
    kept = _written(decisions, decisions.usual, preprocessor)  # the piece in the vocabulary's normal form
    scores = {piece: staying}
    sure = decisions.sure(min_confidence)
    result = _written(decisions, sure, preprocessor)
    for text, score in ((result, decisions.likelihood(sure)), *_decided(decisions, preprocessor)):
        if text != kept and (words is None or has_word(text)):
            scores.setdefault(text, score)
    if words is not None:
        scores = {text: _weighed(text, score, words) for text, score in scores.items()}
    readings = sorted((Reading(text, score) for text, score in scores.items()), key=lambda reading: -reading.score)
    if words is not None:
        total = sum(float(np.exp(reading.score - readings[0].score)) for reading in readings)
        result = readings[0].text if 1 / total >= min_confidence else piece
    result = piece if result == kept else result
    return Piece(readings, next(index for index, reading in enumerate(readings) if reading.text == result))


def _weighed(text: str, score: float, words: KnownWords) -> float:
    likely = _WORDS_WEIGHT * words.log_probability(text) - _UNKNOWN_COST * words.unknown(text)
    return _EDITS_WEIGHT * score + likely


def _decided(decisions: Decisions, preprocessor: Preprocessor) -> Iterator[tuple[str, float]]:
    """Texts that the most likely decisions make, with their log-probabilities, most likely first."""
    best = decisions.sure(0)
    highest = decisions.likelihood(best)
    asked = np.flatnonzero(decisions.usual.reshape(-1) != UNKNOWN)
    scores = decisions.scores.reshape(best.size, -1)
    options = []
    for place in asked.tolist():
        row, first = scores[place], int(best.flat[place])
        likely = np.argpartition(-row, min(_CHOICES, len(row)) - 1)[:_CHOICES]
        options += [
            Option(float(row[first] - row[choice]), place, choice) for choice in likely.tolist() if choice != first
        ]
    for cost, deviations in cheapest(sorted(options), _SETS):
        made = best.copy()
        for option in deviations:
            made.flat[option.place] = option.choice
        yield _written(decisions, made, preprocessor), highest - cost


def _written(decisions: Decisions, selected: npt.NDArray[np.int64], preprocessor: Preprocessor) -> str:
    """The text that the classes `selected` (N, 2) make, without the anchor."""
    put = np.where(selected > 0, selected + FIRST_CHARACTER - 1, 0)
    put[:, 0] = np.where(selected[:, 0] == UNKNOWN, decisions.ids, put[:, 0])
    flat = put.reshape(-1)
    return preprocessor.decode(flat[flat != 0])
