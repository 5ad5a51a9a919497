"""The readings of a piece of text: possible corrections, and the probability of each."""

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

_MAX_CLASSES = 8  # number of most likely classes to consider for each edit
_MAX_SETS = 100  # number of combinations of edits to consider for a piece
_MIN_UNCHANGED = float(np.log(0.95))  # a piece of known words is skipped above this log-probability of no change

# Weights of edits and words, used with known words. Edits are predicted independently, so their product overstates
# the evidence. Tuned on one half of the natural misspellings of benchmarks/correcting.py.
_EDITS_WEIGHT, _WORDS_WEIGHT, _UNKNOWN_COST = 0.3, 0.3, 4.0

_LETTERS = rf"{LETTER}(?:(?![A-Z]){LETTER})*"  # no capital after the first letter, so that names in code do not match
_OPENING, _CLOSING = r"""["'\u2018\u2019\u201c\u201d(\[*_`]*""", r"""["'\u2018\u2019\u201c\u201d)\]*_.,:;!?`]*\s*$"""
_PLAIN = re.compile(f"{_OPENING}{_LETTERS}(?:['\u2019/-]{_LETTERS})*{_CLOSING}")


class KnownWords:
    """Words and their counts, ignoring case. A corrector prefers edits that result in known words.

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
        """The words of a vocabulary's targets; None if there are no targets, pieces of words, or no counts."""
        if targets is None or targets.counts is None or targets.config.kind != "words":
            return None
        pairs = zip(targets.names, targets.counts.tolist(), strict=True)
        return cls({word: count for number, (word, count) in enumerate(pairs) if number != OTHER and count})

    def knows(self, piece: str) -> bool:
        """Whether all words of a piece of text are known; true for a piece without words."""
        return not self.unknown(piece)

    def unknown(self, piece: str) -> int:
        """Number of unknown words in a piece of text."""
        return sum(word not in self._counts for word in self._words(piece))

    def log_probability(self, piece: str) -> float:
        """Sum of log((count + 1) / total count) over the words of a piece of text, in nats."""
        return sum(math.log((self._counts.get(word, 0) + 1) / self._total) for word in self._words(piece))

    def _words(self, piece: str) -> Iterable[str]:
        return WORD.findall(piece.lower())


def has_word(text: str) -> bool:
    """Whether a text contains a word, known or not."""
    return WORD.search(text) is not None


def is_plain(piece: str) -> bool:
    """Whether a piece of text is a word, possibly with punctuation; not a number, an abbreviation or a name in code.

    >>> [piece for piece in ("(The", "re-use, ", "fooBar", "PEP", "x_1", "3rd") if is_plain(piece)]
    ['(The', 're-use, ']
    """
    return _PLAIN.match(piece) is not None


class Option(NamedTuple):
    """An alternative to the most likely choice at one position.

    Attributes:
        cost: log-probability of the most likely choice minus that of this one, at least 0.
        position: index of the position: an edit of a piece, or a piece of a text.
        choice: index of the alternative at this position.
    """

    cost: float
    position: int
    choice: int


def cheapest(options: Sequence[Option], max_sets: int = 10_000) -> Iterator[tuple[float, list[Option]]]:
    """Yields sets of options for different positions, from the lowest total cost up, starting with the empty set.

    Args:
        options: sorted by cost, lowest first.
        max_sets: maximum number of sets to consider.

    >>> a, b, c = Option(1.0, 0, 1), Option(1.5, 1, 1), Option(4.0, 0, 2)
    >>> [(cost, [(option.position, option.choice) for option in some]) for cost, some in cheapest([a, b, c], 4)]
    [(0.0, []), (1.0, [(0, 1)]), (1.5, [(1, 1)]), (2.5, [(0, 1), (1, 1)])]
    """
    yield 0.0, []
    # Each set has two successors: with the next option added, and with its last option replaced by the next one.
    heap = [(options[0].cost, [0])] if options else []
    for _ in range(max_sets - 1):
        if not heap:
            return
        cost, members = heapq.heappop(heap)
        selected = [options[index] for index in members]
        if len({option.position for option in selected}) == len(selected):
            yield cost, selected
        following = members[-1] + 1
        if following < len(options):
            step = options[following].cost
            heapq.heappush(heap, (cost + step, [*members, following]))
            heapq.heappush(heap, (cost + step - options[members[-1]].cost, [*members[:-1], following]))


class Reading(NamedTuple):
    """One reading of a piece of text; `score` is its log-probability up to a constant."""

    text: str
    score: float


class Predictions(NamedTuple):
    """The predictions of a model for N ids of a text: two edits per id, each with C classes.

    Attributes:
        ids: (N,) the ids. The first ones of a text start with END, after which a character can be missing.
        scores: (N, 2, C) log-probabilities of the correct class of each id, and of the class missing after it.
        unchanged: (N, 2) the classes that leave the text unchanged; UNKNOWN where no edit is possible.
    """

    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    unchanged: npt.NDArray[np.int64]

    @classmethod
    def of(cls, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], begins: bool) -> "Predictions":
        """Builds predictions. Special ids and bytes are not edited, but a character can be inserted after the END.

        Args:
            ids, scores: see the class.
            begins: whether the first id is the END at the beginning of the text.
        """
        seen = classes(ids)
        unchanged = np.stack([seen, np.where(seen == UNKNOWN, UNKNOWN, NOTHING)], axis=1)
        if begins:
            unchanged[0] = UNKNOWN, NOTHING
        return cls(ids, scores, unchanged)

    def log_probability(self, selected: npt.NDArray[np.int64]) -> float:
        """The log-probability of the classes `selected` (N, 2), summed over all possible edits."""
        scores = np.take_along_axis(self.scores, np.maximum(selected, 0)[..., None], axis=2)[..., 0]
        return float(scores[self.unchanged != UNKNOWN].sum())

    def confident(self, min_confidence: float) -> npt.NDArray[np.int64]:
        """(N, 2) the most likely class if its probability is at least `min_confidence`, otherwise the unchanged one."""
        is_confident = (self.scores.max(axis=2) >= np.log(max(min_confidence, 1e-9))) & (self.unchanged != UNKNOWN)
        return np.where(is_confident, self.scores.argmax(axis=2), self.unchanged)


class Piece(NamedTuple):
    """The readings of a piece of text, most likely first, including the piece itself; and the selected index."""

    readings: list[Reading]
    selected: int


def read_piece(
    piece: str,
    predictions: Predictions,
    preprocessor: Preprocessor,
    words: KnownWords | None,
    min_confidence: float,
    thorough: bool,
) -> Piece:
    """Finds the readings of a piece of text, and selects one.

    Args:
        piece: the original text.
        predictions: the predictions for its ids.
        preprocessor: the vocabulary.
        words: known words, or None. With known words, selects the most likely reading if its probability is at least
            `min_confidence`; otherwise makes each edit whose probability is at least `min_confidence`.
        min_confidence: 0 to 1.
        thorough: search for readings even if the piece is almost certainly correct.
    """
    unchanged_score = predictions.log_probability(predictions.unchanged)
    only_original = Piece([Reading(piece, 0.0)], 0)
    if words is not None and not is_plain(piece):
        return only_original
    if not thorough and unchanged_score > _MIN_UNCHANGED and (words is None or words.knows(piece)):
        return only_original
    normalized = _text_of(predictions, predictions.unchanged, preprocessor)
    scores = {piece: unchanged_score}
    confident = predictions.confident(min_confidence)
    result = _text_of(predictions, confident, preprocessor)
    for text, score in ((result, predictions.log_probability(confident)), *_candidates(predictions, preprocessor)):
        if text != normalized and (words is None or has_word(text)):
            scores.setdefault(text, score)
    if words is not None:
        scores = {text: _weighted_score(text, score, words) for text, score in scores.items()}
    readings = sorted((Reading(text, score) for text, score in scores.items()), key=lambda reading: -reading.score)
    if words is not None:
        total = sum(float(np.exp(reading.score - readings[0].score)) for reading in readings)
        result = readings[0].text if 1 / total >= min_confidence else piece
    result = piece if result == normalized else result
    return Piece(readings, next(index for index, reading in enumerate(readings) if reading.text == result))


def _weighted_score(text: str, score: float, words: KnownWords) -> float:
    word_score = _WORDS_WEIGHT * words.log_probability(text) - _UNKNOWN_COST * words.unknown(text)
    return _EDITS_WEIGHT * score + word_score


def _candidates(predictions: Predictions, preprocessor: Preprocessor) -> Iterator[tuple[str, float]]:
    """Yields the texts of the most likely edits with their log-probabilities, most likely first."""
    best = predictions.confident(0)
    highest = predictions.log_probability(best)
    positions = np.flatnonzero(predictions.unchanged.reshape(-1) != UNKNOWN)
    scores = predictions.scores.reshape(best.size, -1)
    options = []
    for position in positions.tolist():
        row, first = scores[position], int(best.flat[position])
        likely = np.argpartition(-row, min(_MAX_CLASSES, len(row)) - 1)[:_MAX_CLASSES]
        options += [
            Option(float(row[first] - row[choice]), position, choice) for choice in likely.tolist() if choice != first
        ]
    for cost, deviations in cheapest(sorted(options), _MAX_SETS):
        selected = best.copy()
        for option in deviations:
            selected.flat[option.position] = option.choice
        yield _text_of(predictions, selected, preprocessor), highest - cost


def _text_of(predictions: Predictions, selected: npt.NDArray[np.int64], preprocessor: Preprocessor) -> str:
    """The text after the edits `selected` (N, 2), without the leading END."""
    ids = np.where(selected > 0, selected + FIRST_CHARACTER - 1, 0)
    ids[:, 0] = np.where(selected[:, 0] == UNKNOWN, predictions.ids, ids[:, 0])
    flat = ids.reshape(-1)
    return preprocessor.decode(flat[flat != 0])
