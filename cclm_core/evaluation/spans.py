"""BIO tags and entity spans: reading tags, finding the best legal tags, scoring spans.

Tags: 0 is O, 1 + 2k is B of label k, 2 + 2k is I of label k. A span is (start, end, label), half open.

>>> tags_to_spans([0, 1, 2, 1, 0])
[(1, 3, 0), (3, 4, 0)]
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Span = tuple[int, int, int]

_NEVER = -1e9  # the score of what is forbidden: finite, so that a text in which nothing is legal still has a best path


def tags_to_spans(tags: Sequence[int] | npt.NDArray[np.integer]) -> list[Span]:
    """The spans of tags (L,).

    An ill-formed sequence is repaired as CoNLL's scorer does: an I that continues nothing of its label begins a span.

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
    """(L + 1,) bool: between which characters of `text` a span may start or end.

    Never between two letters or digits. Scripts written without spaces have no such edges inside a sentence: turn
    `word_boundaries` off for them.

    >>> word_edges("I'm ok").astype(int).tolist()
    [1, 1, 1, 1, 1, 0, 1]
    """
    inside = np.fromiter((character.isalnum() for character in text), dtype=bool, count=len(text))
    edges = np.ones(len(text) + 1, dtype=bool)
    edges[1:-1] = ~(inside[:-1] & inside[1:])
    return edges


def best_tags(
    scores: npt.NDArray[np.float32], edges: npt.NDArray[np.bool_], blanks: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """The legal tags (L,) whose scores add up to most (Viterbi).

    Legal: an I follows a B or an I of its label; a span starts and ends at an edge and not with a blank.

    Args:
        scores: (L, 1 + 2K) log-probabilities of the tags.
        edges: (L + 1,) where spans may start and end: see `word_edges`.
        blanks: (L,) which characters are white space.
    """
    length, num_tags = scores.shape
    if not length:
        return np.zeros(0, dtype=np.int64)
    begins, insides = np.arange(1, num_tags, 2), np.arange(2, num_tags, 2)
    scores = scores.astype(np.float64)
    scores[np.ix_(~edges[:-1] | blanks, begins)] = _NEVER
    ends = edges[1:] & ~blanks  # whether a span may end with this character
    free = np.full((num_tags, num_tags), _NEVER)  # from tag (row) to tag (column)
    free[0, 0] = 0
    free[0, begins] = 0
    held = free.copy()  # after a character with which no span may end
    free[1:, 0] = 0
    free[np.ix_(np.arange(1, num_tags), begins)] = 0
    for moves in (free, held):
        moves[begins, insides] = moves[insides, insides] = 0
    total = scores[0].copy()
    total[insides] = _NEVER
    came = np.zeros((length, num_tags), dtype=np.int64)
    for place in range(1, length):
        through = total[:, None] + (free if ends[place - 1] else held)
        came[place] = through.argmax(axis=0)
        total = through.max(axis=0) + scores[place]
    tags = np.zeros(length, dtype=np.int64)
    tags[-1] = total.argmax() if ends[-1] else 0
    for place in range(length - 1, 0, -1):
        tags[place - 1] = came[place, tags[place]]
    return tags


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
        wanted, found = set(gold), set(predicted)
        for counts, spans in ((self.correct, wanted & found), (self.predicted, found), (self.gold, wanted)):
            for _, _, label in spans:
                counts[label] = counts.get(label, 0) + 1

    def labels(self) -> list[str]:
        """Every label that was wanted or found, sorted."""
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
