"""Counts of the edits of a corrector, compared with those of a person."""

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np
from correcting_texts import Correction

TOKEN = re.compile(r"\w+(?:['\u2019]\w+)*|\s+|[^\w\s]")
RESAMPLES = 2000  # bootstrap samples of an interval


class Score(NamedTuple):
    """Counts of the edits of a corrector.

    Args:
        right: edits that the person made too.
        wrong: edits that the person did not make.
        introduced: wrong edits in places that the person did not change.
        expected: edits of the person.
    """

    right: int
    wrong: int
    introduced: int
    expected: int

    @property
    def precision(self) -> float:
        """Share of the edits that are right."""
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        """Share of the expected edits that were made."""
        return self.right / max(1, self.expected)

    @property
    def f(self) -> float:
        """F0.5 of precision and recall."""
        return 1.25 * self.precision * self.recall / max(1e-9, 0.25 * self.precision + self.recall)


def edits(before: str, after: str) -> set[tuple[int, int, str]]:
    """Returns the edits between two texts: first token, last token (exclusive), replacement."""
    first, second = TOKEN.findall(before), TOKEN.findall(after)
    codes = SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
    return {(a, b, "".join(second[c:d])) for tag, a, b, c, d in codes if tag != "equal"}


def line_scores(pairs: Sequence[Correction], correct: Callable[[str], str]) -> list[Score]:
    """Counts the edits of a corrector on each line with a known correction."""
    scores = []
    for pair in pairs:
        by_person, by_corrector = edits(*pair), edits(pair.wrong, correct(pair.wrong))
        wrong = by_corrector - by_person
        # An insertion covers no token, so it counts as touching the next one.
        spans = [(start, max(end, start + 1)) for start, end, _ in by_person]
        introduced = sum(not any(start < b and a < max(end, start + 1) for a, b in spans) for start, end, _ in wrong)
        scores.append(Score(len(by_corrector & by_person), len(wrong), introduced, len(by_person)))
    return scores


def total(scores: Sequence[Score]) -> Score:
    """Returns the sum of the counts of lines."""
    return Score(*(sum(counts) for counts in zip(*scores, strict=True)))


def difference(seeds: Sequence[Sequence[Score]], peer: Sequence[Score]) -> tuple[float, float, float]:
    """Compares F0.5 with that of a peer on the same lines.

    Args:
        seeds: for each seed, the scores of the lines.
        peer: the scores of the lines of the peer.

    Returns:
        The difference of F0.5 (mean over seeds), and the ends of its 95 % interval: a paired bootstrap over lines.
    """
    counts = np.array([*seeds, peer])  # (seeds + 1, lines, counts)
    lines = counts.shape[1]
    weights = np.random.default_rng(1).multinomial(lines, np.full(lines, 1 / lines), RESAMPLES)
    samples = np.concatenate([counts.sum(1)[:, None], weights @ counts], 1)  # (seeds + 1, 1 + resamples, counts)
    right, wrong, _, expected = np.moveaxis(samples, -1, 0)
    f = 1.25 * right / np.maximum(1, right + wrong + 0.25 * expected)
    gains = f[:-1].mean(0) - f[-1]
    low, high = np.quantile(gains[1:], (0.025, 0.975))
    return float(gains[0]), float(low), float(high)
