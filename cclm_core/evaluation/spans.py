"""BIO tags and entity spans: converting tags to spans, decoding tag scores, and scoring spans.

Tags: 0 is O, 1 + 2k is B of label k, 2 + 2k is I of label k. A span is (start, end, label) with `end` exclusive.

>>> tags_to_spans([0, 1, 2, 1, 0])
[(1, 3, 0), (3, 4, 0)]
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.text.scripts import has_unspaced, unspaced
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.words import alphanumeric

Span = tuple[int, int, int]
TextSpans = list[tuple[int, int, str]]
"""Spans of one text: start, end (exclusive) and label, in characters."""
Scores = npt.NDArray[np.float32]

MAX_INSIDE_WORDS = 0.02
"""Share of the spans in training that may start or end inside a word, such as errors of annotation, while word
boundaries still count. In languages that join particles to names, such as Korean, it is most spans."""
_FORBIDDEN = -1e9  # score of a forbidden transition; finite, so that sums of it keep their order
_BATCH_TEXTS = 64  # texts decoded at once


def tags_to_spans(tags: Sequence[int] | npt.NDArray[np.integer]) -> list[Span]:
    """The spans of tags (L,).

    Repairs ill-formed sequences like CoNLL's scorer: an I that does not continue a span of its label starts a new one.

    >>> tags_to_spans([0, 2, 2, 4])
    [(1, 3, 0), (3, 4, 1)]
    """
    spans: list[Span] = []
    start, open_label = 0, -1
    for position, tag in enumerate([*(int(tag) for tag in tags), 0]):
        label = (tag - 1) // 2 if tag else -1
        if open_label >= 0 and (tag % 2 == 1 or label != open_label):
            spans.append((start, position, open_label))
            open_label = -1
        if label >= 0 and open_label < 0:
            start, open_label = position, label
    return spans


def word_edges(text: str) -> npt.NDArray[np.bool_]:
    """(L + 1,) bool: at which positions between the characters of `text` a span may start or end.

    Not between two letters or digits, except next to a character of a script that is written without spaces.

    >>> word_edges("I'm ok").astype(int).tolist()
    [1, 1, 1, 1, 1, 0, 1]
    >>> word_edges("去北京ok").astype(int).tolist()
    [1, 1, 1, 1, 0, 1]
    """
    inside = alphanumeric(text)
    if has_unspaced(text):
        inside &= ~unspaced(text)
    edges = np.ones(len(text) + 1, dtype=bool)
    edges[1:-1] = ~(inside[:-1] & inside[1:])
    return edges


class Tagging(NamedTuple):
    """The tag scores of one text, with constraints on spans.

    Attributes:
        scores: (L, 1 + 2K) log-probabilities of the tags.
        edges: (L + 1,) bool, where spans may start and end; see `word_edges`.
        blanks: (L,) bool, which characters are whitespace.
    """

    scores: npt.NDArray[np.float32]
    edges: npt.NDArray[np.bool_]
    blanks: npt.NDArray[np.bool_]


class TagTransitions(NamedTuple):
    """Learned scores of sequences of tags, Y = 1 + 2K; see `heads.transitions`.

    Attributes:
        between: (Y, Y), of a tag (row) before another one (column).
        first, last: (Y,), of the first and the last tag of a text.
    """

    between: npt.NDArray[np.float32]
    first: npt.NDArray[np.float32]
    last: npt.NDArray[np.float32]


def best_tags(texts: Sequence[Tagging], learned: TagTransitions | None = None) -> list[npt.NDArray[np.int64]]:
    """The valid tags (L,) of each text with the highest sum of scores (Viterbi decoding).

    Tags are valid if every I follows a B or an I of its label, and every span starts and ends at an edge and with a
    character that is not a blank.

    Args:
        texts: the scores and the constraints of each text.
        learned: scores of transitions, added to those of the tags; None for none.
    """
    order = sorted(range(len(texts)), key=lambda number: len(texts[number].scores))
    best: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)] * len(texts)
    for first in range(0, len(order), _BATCH_TEXTS):
        batch = order[first : first + _BATCH_TEXTS]
        for number, tags in zip(batch, _best_tags([texts[number] for number in batch], learned), strict=True):
            best[number] = tags
    return best


def _best_tags(texts: Sequence[Tagging], learned: TagTransitions | None) -> list[npt.NDArray[np.int64]]:
    lengths = [len(text.scores) for text in texts]
    num_tags = texts[0].scores.shape[1]
    shape = len(texts), max(lengths) + 1  # an O after every text closes its last span
    scores = np.full((*shape, num_tags), _FORBIDDEN)
    scores[:, :, 0] = 0
    starts, ends = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        scores[row, :length] = text.scores
        starts[row, :length] = text.edges[:-1] & ~text.blanks
        ends[row, :length] = text.edges[1:] & ~text.blanks
    scores[:, :, 1::2] += np.where(starts, 0, _FORBIDDEN)[:, :, None]
    transitions, rows = _transitions(num_tags), np.arange(len(texts))
    total = scores[:, 0].copy()
    total[:, 2::2] = _FORBIDDEN
    if learned is not None:
        total += learned.first
        kinds = 1 + np.sign(np.arange(shape[1]) - np.array(lengths)[:, None])  # 0 inside, 1 at the O after the text
        last = np.repeat(learned.last[:, None], num_tags, axis=1)
        added = np.stack([learned.between, last, np.zeros_like(last)])
    previous = np.zeros((*shape, num_tags), dtype=np.int64)
    for position in range(1, shape[1]):
        paths = total[:, :, None] + transitions[ends[:, position - 1].astype(np.int64)]
        if learned is not None:
            paths += added[kinds[:, position]]
        previous[:, position] = paths.argmax(axis=1)
        total = paths.max(axis=1) + scores[:, position]
    tags = np.zeros(shape, dtype=np.int64)
    for position in range(shape[1] - 1, 0, -1):
        tags[:, position - 1] = previous[rows, position, tags[:, position]]
    return [tags[row, :length] for row, length in enumerate(lengths)]


def _transitions(num_tags: int) -> npt.NDArray[np.float64]:
    """(2, T, T): scores of transitions from a tag (row) to a tag (column).

    The first matrix is for positions where no span may end, the second for the others.
    """
    transitions = np.full((2, num_tags, num_tags), _FORBIDDEN)
    begins, insides = np.arange(1, num_tags, 2), np.arange(2, num_tags, 2)
    transitions[:, 0, 0] = 0
    transitions[:, 0, begins] = 0
    transitions[:, begins, insides] = 0
    transitions[:, insides, insides] = 0
    transitions[1, 1:, 0] = 0
    transitions[1][np.ix_(np.arange(1, num_tags), begins)] = 0
    return transitions


def spans_of_texts(
    texts: Sequence[str], scores: Sequence[Scores], preprocessor: Preprocessor, labels: Sequence[str], words: bool
) -> list[TextSpans]:
    """The best entity spans of each text, in characters.

    Args:
        texts: N texts.
        scores: for each text, the tag scores (L, 1 + 2K) of its ids.
        preprocessor: maps ids to characters.
        labels: the K entity labels.
        words: forbid spans to start or end inside a word.
    """
    offsets = [preprocessor.offsets(text) for text in texts]
    taggings = [_tagging(*inputs, words) for inputs in zip(texts, offsets, scores, strict=True)]
    return [
        [
            (int(characters[start]), int(characters[end - 1]) + 1, labels[label])
            for characters in [text_offsets[text_offsets >= 0]]
            for start, end, label in tags_to_spans(tags)
        ]
        for text_offsets, tags in zip(offsets, best_tags(taggings), strict=True)
    ]


def gold_spans(
    ids: npt.NDArray[np.uint16], tags: npt.NDArray[np.uint8], preprocessor: Preprocessor, labels: Sequence[str]
) -> TextSpans:
    """The spans of `tags` (L,), in characters of the text that `ids` (L,) encode."""
    return [
        (len(preprocessor.decode(ids[:start])), len(preprocessor.decode(ids[:end])), labels[label])
        for start, end, label in tags_to_spans(tags)
    ]


def spans_inside_words(text: str, spans: TextSpans) -> int:
    """The number of spans that start or end inside a word, where `word_edges` has no edge.

    >>> spans_inside_words("Ankarada Ali", [(0, 6, "PLACE"), (9, 12, "PERSON")])
    1
    """
    edges = word_edges(text)
    return sum(not (edges[start] and edges[end]) for start, end, _ in spans)


@dataclass
class SpanScore:
    """Counts exact matches: a predicted span is correct if a gold span has the same start, end and label.

    Attributes:
        correct, predicted, gold: number of spans by label.
    """

    correct: dict[str, int] = field(default_factory=dict)
    predicted: dict[str, int] = field(default_factory=dict)
    gold: dict[str, int] = field(default_factory=dict)

    def add(self, gold: Iterable[tuple[int, int, str]], predicted: Iterable[tuple[int, int, str]]) -> None:
        """Counts the spans of one document."""
        true, positive = set(gold), set(predicted)
        for counts, spans in ((self.correct, true & positive), (self.predicted, positive), (self.gold, true)):
            for _, _, label in spans:
                counts[label] = counts.get(label, 0) + 1

    def labels(self) -> list[str]:
        """All labels of gold and predicted spans, sorted."""
        return sorted(self.gold.keys() | self.predicted.keys())

    def metrics(self, label: str | None = None) -> dict[str, float]:
        """Precision, recall and F1 of one label; None for the micro average over all labels."""
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
    rows = np.flatnonzero(offsets >= 0)  # without the CLS id
    characters = offsets[rows]
    allowed = word_edges(text) if words else np.ones(len(text) + 1, dtype=bool)
    edges = np.append(allowed[characters], True)
    edges[1:-1] &= characters[1:] != characters[:-1]  # not between the bytes of one character
    blank = np.fromiter((character.isspace() for character in text), dtype=bool, count=len(text))
    return Tagging(scores[rows], edges, blank[characters])
