"""The readings of a piece of text: what it may have been meant to be, and how likely each is."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.applications.correction.options import Option, cheapest
from cclm_core.applications.correction.words import KnownWords, has_word, is_plain
from cclm_core.objectives.denoise import NOTHING, UNKNOWN, classes
from cclm_core.text.vocabulary import FIRST_CHARACTER, Preprocessor

_CHOICES = 8  # classes that are considered at a place, the likeliest
_SETS = 100  # ways to decide at all places of a piece that are considered
_CERTAIN = float(
    np.log(0.95)
)  # a piece that stays with this log-probability, and holds known words, is not looked into

# How edits and words are weighed where words are known: edits are independent guesses about one letter each, and say
# less than their product. Chosen on one half of the natural misspellings of benchmarks/correcting.py.
_EDITS_WEIGHT, _WORDS_WEIGHT, _UNKNOWN_COST = 0.3, 0.3, 4.0


class Reading(NamedTuple):
    """What a piece may have been meant to be, and the natural logarithm of how likely that is, up to a constant."""

    text: str
    score: float


class Decisions(NamedTuple):
    """What a model says of the ids of a text.

    Attributes:
        ids: (N,) the ids, an anchor first, behind which something may be missing too.
        scores: (N, 2, C) log-probabilities of the class that should stand at each id, and of that missing behind it.
        usual: (N, 2) the classes that leave the text as it is; UNKNOWN where nothing is to be decided.
    """

    ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    usual: npt.NDArray[np.int64]

    @classmethod
    def of(cls, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> "Decisions":
        """Marks and bytes stay as they are, and nothing is put behind them, but behind the anchor."""
        seen = classes(ids)
        usual = np.stack([seen, np.where(seen == UNKNOWN, UNKNOWN, NOTHING)], axis=1)
        usual[0] = UNKNOWN, NOTHING
        return cls(ids, scores, usual)

    def at(self, places: npt.NDArray[np.int64]) -> "Decisions":
        """Those at some of the ids."""
        return Decisions(self.ids[places], self.scores[places], self.usual[places])

    def likelihood(self, chosen: npt.NDArray[np.int64]) -> float:
        """The log-probability of the classes `chosen` (N, 2) where something is to be decided."""
        taken = np.take_along_axis(self.scores, np.maximum(chosen, 0)[..., None], axis=2)[..., 0]
        return float(taken[self.usual != UNKNOWN].sum())

    def sure(self, min_confidence: float) -> npt.NDArray[np.int64]:
        """(N, 2) the likeliest class where its probability is at least `min_confidence`, else the usual one."""
        is_sure = (self.scores.max(axis=2) >= np.log(max(min_confidence, 1e-9))) & (self.usual != UNKNOWN)
        return np.where(is_sure, self.scores.argmax(axis=2), self.usual)


class Piece(NamedTuple):
    """The readings of a piece of text, the likeliest first, the piece itself among them; and which one was chosen."""

    readings: list[Reading]
    chosen: int


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
        piece: what is written.
        decisions: about the ids that stand for it.
        preprocessor: the vocabulary.
        words: the words that are known: the likeliest reading is chosen if its probability is high enough. Without
            them the model decides alone: each edit is made whose probability is.
        min_confidence: how high that is, 0 to 1.
        thorough: whether to look for readings of a piece about which there is no doubt.
    """
    staying = decisions.likelihood(decisions.usual)
    plain = Piece([Reading(piece, 0.0)], 0)
    if words is not None and not is_plain(piece):
        return plain
    if not thorough and staying > _CERTAIN and (words is None or words.knows(piece)):
        return plain
    kept = _written(decisions, decisions.usual, preprocessor)  # the piece in the vocabulary's normal form
    found = {piece: staying}
    sure = decisions.sure(min_confidence)
    chosen = _written(decisions, sure, preprocessor)
    for text, score in ((chosen, decisions.likelihood(sure)), *_decided(decisions, preprocessor)):
        if text != kept and (words is None or has_word(text)):
            found.setdefault(text, score)
    if words is not None:
        found = {text: _weighed(text, score, words) for text, score in found.items()}
    readings = sorted((Reading(text, score) for text, score in found.items()), key=lambda one: -one.score)
    if words is not None:
        total = sum(float(np.exp(one.score - readings[0].score)) for one in readings)
        chosen = readings[0].text if 1 / total >= min_confidence else piece
    chosen = piece if chosen == kept else chosen
    return Piece(readings, next(index for index, reading in enumerate(readings) if reading.text == chosen))


def _weighed(text: str, score: float, words: KnownWords) -> float:
    likely = _WORDS_WEIGHT * words.log_probability(text) - _UNKNOWN_COST * words.unknown(text)
    return _EDITS_WEIGHT * score + likely


def _decided(decisions: Decisions, preprocessor: Preprocessor) -> Iterator[tuple[str, float]]:
    """Texts that the likeliest decisions make, the likelier first, with their log-probabilities."""
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


def _written(decisions: Decisions, chosen: npt.NDArray[np.int64], preprocessor: Preprocessor) -> str:
    """The text that the classes `chosen` (N, 2) make; the anchor is no part of it."""
    put = np.where(chosen > 0, chosen + FIRST_CHARACTER - 1, 0)
    put[:, 0] = np.where(chosen[:, 0] == UNKNOWN, decisions.ids, put[:, 0])
    flat = put.reshape(-1)
    return preprocessor.decode(flat[flat != 0])
