"""BIO tags and entity spans: reading tags, finding the best legal tags, scoring spans.

Tags: 0 is O, 1 + 2k is B of label k, 2 + 2k is I of label k. A span is (start, end, label), half open.

>>> tags_to_spans([0, 1, 2, 1, 0])
[(1, 3, 0), (3, 4, 0)]
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.words import alphanumeric

Span = tuple[int, int, int]
TextSpans = list[tuple[int, int, str]]
"""Spans of one text: start, end, label, half open, in characters."""
Scores = npt.NDArray[np.float32]

_NEVER = -1e9  # the score of a forbidden move: finite, so that sums of it stay ordered
_TOGETHER = 64  # texts that are decoded in one batch


def tags_to_spans(tags: Sequence[int] | npt.NDArray[np.integer]) -> list[Span]:
    """The spans of tags (L,).

    An ill-formed sequence is repaired as CoNLL's scorer does: an I without a span of its label to continue begins one.

    >>> tags_to_spans([0, 2, 2, 4])
    [(1, 3, 0), (3, 4, 1)]
    """
    spans: list[Span] = []
    start, open_label = 0, -1
    for place, tag in enumerate([*(int(tag) for tag in tags), 0]):
        label = (tag - 1) // 2 if tag else -1
        if open_label >= 0 and (tag % 2 == 1 or label != open_label):
            spans.append((start, place, open_label))
            open_label = -1
        if label >= 0 and open_label < 0:
            start, open_label = place, label
    return spans


def word_edges(text: str) -> npt.NDArray[np.bool_]:
    """(L + 1,) bool: the positions between characters of `text` where a span may start or end.

    Never between two letters or digits. Scripts written without spaces have no such edges inside a sentence: turn
    `word_boundaries` off for them.

    >>> word_edges("I'm ok").astype(int).tolist()
    [1, 1, 1, 1, 1, 0, 1]
    """
    inside = alphanumeric(text)
    edges = np.ones(len(text) + 1, dtype=bool)
    edges[1:-1] = ~(inside[:-1] & inside[1:])
    return edges


class Tagging(NamedTuple):
    """The scores of the tags of one text, and where spans may be.

    Attributes:
        scores: (L, 1 + 2K) log-probabilities of the tags.
        edges: (L + 1,) bool, where spans may start and end: see `word_edges`.
        blanks: (L,) bool, which characters are white space.
    """

    scores: npt.NDArray[np.float32]
    edges: npt.NDArray[np.bool_]
    blanks: npt.NDArray[np.bool_]


def best_tags(texts: Sequence[Tagging]) -> list[npt.NDArray[np.int64]]:
    """The legal tags (L,) of each text with the highest sum of scores (Viterbi).

    Legal: an I follows a B or an I of its label; a span starts and ends at an edge and not with a blank.
    """
    order = sorted(range(len(texts)), key=lambda number: len(texts[number].scores))
    found: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)] * len(texts)
    for first in range(0, len(order), _TOGETHER):
        chosen = order[first : first + _TOGETHER]
        for number, tags in zip(chosen, _best_tags([texts[number] for number in chosen]), strict=True):
            found[number] = tags
    return found


def _best_tags(texts: Sequence[Tagging]) -> list[npt.NDArray[np.int64]]:
    lengths = [len(text.scores) for text in texts]
    num_tags = texts[0].scores.shape[1]
    shape = len(texts), max(lengths) + 1  # an O follows every text, so that its last span is closed
    scores = np.full((*shape, num_tags), _NEVER)
    scores[:, :, 0] = 0
    starts, ends = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        scores[row, :length] = text.scores
        starts[row, :length] = text.edges[:-1] & ~text.blanks
        ends[row, :length] = text.edges[1:] & ~text.blanks
    scores[:, :, 1::2] += np.where(starts, 0, _NEVER)[:, :, None]
    moves, rows = _moves(num_tags), np.arange(len(texts))
    total = scores[:, 0].copy()
    total[:, 2::2] = _NEVER
    came = np.zeros((*shape, num_tags), dtype=np.int64)
    for place in range(1, shape[1]):
        through = total[:, :, None] + moves[ends[:, place - 1].astype(np.int64)]
        came[:, place] = through.argmax(axis=1)
        total = through.max(axis=1) + scores[:, place]
    tags = np.zeros(shape, dtype=np.int64)
    for place in range(shape[1] - 1, 0, -1):
        tags[:, place - 1] = came[rows, place, tags[:, place]]
    return [tags[row, :length] for row, length in enumerate(lengths)]


def _moves(num_tags: int) -> npt.NDArray[np.float64]:
    """(2, T, T): scores of going from a tag (row) to a tag (column) where a span may not end, and where it may."""
    moves = np.full((2, num_tags, num_tags), _NEVER)
    begins, insides = np.arange(1, num_tags, 2), np.arange(2, num_tags, 2)
    moves[:, 0, 0] = 0
    moves[:, 0, begins] = 0
    moves[:, begins, insides] = 0
    moves[:, insides, insides] = 0
    moves[1, 1:, 0] = 0
    moves[1][np.ix_(np.arange(1, num_tags), begins)] = 0
    return moves


def spans_of_texts(
    texts: Sequence[str], scores: Sequence[Scores], preprocessor: Preprocessor, labels: Sequence[str], words: bool
) -> list[TextSpans]:
    """The entity spans of each text, in characters, from the scores (L, 1 + 2K) of the tags of its ids.

    Args:
        words: whether spans neither start nor end inside a word.
    """
    offsets = [preprocessor.offsets(text) for text in texts]
    taggings = [_tagging(*parts, words) for parts in zip(texts, offsets, scores, strict=True)]
    return [
        [
            (int(places[start]), int(places[end - 1]) + 1, labels[label])
            for places in [found[found >= 0]]
            for start, end, label in tags_to_spans(tags)
        ]
        for found, tags in zip(offsets, best_tags(taggings), strict=True)
    ]


def gold_spans(
    ids: npt.NDArray[np.uint16], tags: npt.NDArray[np.uint8], preprocessor: Preprocessor, labels: Sequence[str]
) -> TextSpans:
    """The spans of tags (L,), in characters of the text of `ids` (L,)."""
    return [
        (len(preprocessor.decode(ids[:start])), len(preprocessor.decode(ids[:end])), labels[label])
        for start, end, label in tags_to_spans(tags)
    ]


@dataclass
class SpanScore:
    """Exact matches: a predicted span counts if start, end and label are those of a gold span.

    Attributes:
        correct, predicted, gold: numbers of spans, by label.
    """

    correct: dict[str, int] = field(default_factory=dict)
    predicted: dict[str, int] = field(default_factory=dict)
    gold: dict[str, int] = field(default_factory=dict)

    def add(self, gold: Iterable[tuple[int, int, str]], predicted: Iterable[tuple[int, int, str]]) -> None:
        """Counts the spans of one document."""
        true, found = set(gold), set(predicted)
        for counts, spans in ((self.correct, true & found), (self.predicted, found), (self.gold, true)):
            for _, _, label in spans:
                counts[label] = counts.get(label, 0) + 1

    def labels(self) -> list[str]:
        """Every label of a gold or predicted span, sorted."""
        return sorted(self.gold.keys() | self.predicted.keys())

    def figures(self, label: str | None = None) -> dict[str, float]:
        """Precision, recall and F1 of one label, or of all spans together (micro average)."""
        names = self.labels() if label is None else [label]
        correct, predicted, gold = (
            sum(counts.get(name, 0) for name in names) for counts in (self.correct, self.predicted, self.gold)
        )
        return {
            "precision": correct / predicted if predicted else 0.0,
            "recall": correct / gold if gold else 0.0,
            "f1": 2 * correct / (predicted + gold) if predicted + gold else 0.0,
        }


def _tagging(text: str, offsets: npt.NDArray[np.int32], scores: Scores, words: bool) -> Tagging:
    of_text = np.flatnonzero(offsets >= 0)  # without the CLS id
    places = offsets[of_text]
    allowed = word_edges(text) if words else np.ones(len(text) + 1, dtype=bool)
    edges = np.append(allowed[places], True)
    edges[1:-1] &= places[1:] != places[:-1]  # not between the bytes of one character
    blank = np.fromiter((character.isspace() for character in text), dtype=bool, count=len(text))
    return Tagging(scores[of_text], edges, blank[places])
