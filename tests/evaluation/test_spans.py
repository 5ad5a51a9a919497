"""Spans and tags: repair of ill-formed tags, decoding, and scores that agree with nervaluate."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cclm_core.evaluation.spans import Scores, Span, SpanScore, Tagging, TextSpans, best_tags, tags_to_spans, word_edges

LABELS = ("PERSON", "PLACE")


def tags_of(spans: list[Span], length: int) -> list[int]:
    tags = [0] * length
    for start, end, label in spans:
        tags[start:end] = [1 + 2 * label] + [2 + 2 * label] * (end - start - 1)
    return tags


@st.composite
def span_lists(draw: Any, length: int = 30) -> list[Span]:
    cuts = sorted(draw(st.sets(st.integers(0, length), max_size=12)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    return [(start, end, draw(st.integers(0, 1))) for start, end in pairs]


@given(span_lists())
def test_spans_round_trip_through_tags(spans: list[Span]) -> None:
    assert tags_to_spans(tags_of(spans, 30)) == spans


def test_adjacent_spans_are_separate() -> None:
    assert tags_to_spans([1, 2, 1, 3, 4]) == [(0, 2, 0), (2, 3, 0), (3, 5, 1)]


@pytest.mark.parametrize(
    ("tags", "spans"),
    [([2, 2, 0], [(0, 2, 0)]), ([1, 4, 4], [(0, 1, 0), (1, 3, 1)]), ([0, 0, 2], [(2, 3, 0)]), ([], [])],
)
def test_an_inside_tag_without_a_span_to_continue_starts_one(tags: list[int], spans: list[Span]) -> None:
    assert tags_to_spans(tags) == spans


def names(spans: list[Span]) -> TextSpans:
    return [(start, end, LABELS[label]) for start, end, label in spans]


def test_only_exact_matches_score() -> None:
    gold = [(0, 5, "PERSON"), (9, 12, "PLACE")]
    perfect, shifted, mislabeled = SpanScore(), SpanScore(), SpanScore()
    perfect.add(gold, gold)
    shifted.add(gold, [(0, 4, "PERSON"), (8, 12, "PLACE")])
    mislabeled.add(gold, [(0, 5, "PLACE"), (9, 12, "PLACE")])
    assert perfect.metrics() == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert shifted.metrics() == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert mislabeled.metrics()["f1"] == 0.5
    assert mislabeled.metrics("PLACE") == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)}
    assert mislabeled.metrics("PERSON")["recall"] == 0.0


def test_no_spans_at_all_score_zero() -> None:
    score = SpanScore()
    score.add([], [])
    assert score.metrics()["f1"] == 0.0 and score.labels() == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(span_lists(), span_lists()), min_size=1, max_size=4))
def test_scores_agree_with_nervaluate(documents: list[tuple[list[Span], list[Span]]]) -> None:
    from nervaluate import Evaluator

    assume(documents[0][0])  # nervaluate guesses its input format from the first span

    score = SpanScore()
    all_gold: list[list[dict[str, Any]]] = []
    all_predicted: list[list[dict[str, Any]]] = []
    for gold, predicted in documents:
        score.add(names(gold), names(predicted))
        all_gold.append([{"label": LABELS[k], "start": a, "end": b - 1} for a, b, k in gold])
        all_predicted.append([{"label": LABELS[k], "start": a, "end": b - 1} for a, b, k in predicted])
    result = Evaluator(all_gold, all_predicted, tags=list(LABELS)).evaluate()["overall"]["strict"]
    assert score.metrics()["precision"] == pytest.approx(result.precision)
    assert score.metrics()["recall"] == pytest.approx(result.recall)
    assert score.metrics()["f1"] == pytest.approx(result.f1)


def is_valid(tags: Sequence[int], edges: npt.NDArray[np.bool_], blanks: npt.NDArray[np.bool_]) -> bool:
    previous = 0
    for position, tag in enumerate([*tags, 0]):
        inside = tag > 0 and tag % 2 == 0
        if inside and previous not in (tag, tag - 1):
            return False
        starts, ends = tag % 2 == 1, previous > 0 and not inside
        if starts and (not edges[position] or blanks[position]):
            return False
        if ends and (not edges[position] or blanks[position - 1]):
            return False
        previous = tag
    return True


def tagging(text: str, scores: Scores) -> Tagging:
    return Tagging(scores, word_edges(text), np.array([c.isspace() for c in text], dtype=bool))


def random_scores(length: int, seed: int, num_tags: int = 5) -> Scores:
    return np.random.default_rng(seed).normal(size=(length, num_tags)).astype(np.float32)


@settings(deadline=None)
@given(st.lists(st.text("ab .", max_size=25), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_the_best_tags_are_valid_and_independent_of_other_texts(texts: list[str], seed: int) -> None:
    taggings = [tagging(text, random_scores(len(text), seed)) for text in texts]
    together = best_tags(taggings)
    for tags, case in zip(together, taggings, strict=True):
        assert is_valid(tags.tolist(), case.edges, case.blanks)
        assert tags.tolist() == best_tags([case])[0].tolist()


def test_valid_tags_with_the_best_score_at_every_character_are_best() -> None:
    tags = np.array(tags_of([(0, 3, 0), (4, 6, 1)], 8))
    scores = np.full((8, 5), -3.0, dtype=np.float32)
    scores[np.arange(8), tags] = 0
    best = best_tags([Tagging(scores, np.ones(9, dtype=bool), np.zeros(8, dtype=bool))])
    assert best[0].tolist() == tags.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_best_path_beats_every_other_valid_path(seed: int) -> None:
    case = tagging("ab c", random_scores(4, seed, 3))
    paths = [path for path in np.ndindex(3, 3, 3, 3) if is_valid(path, case.edges, case.blanks)]
    best = max(paths, key=lambda path: sum(case.scores[position, tag] for position, tag in enumerate(path)))
    assert tuple(best_tags([case])[0]) == best


def test_one_uncertain_letter_does_not_split_a_name() -> None:
    text = "O Romeo, go"
    tags = np.array(tags_of([(2, 7, 0)], len(text)))
    scores = np.full((len(text), 3), -4.0, dtype=np.float32)
    scores[np.arange(len(text)), tags] = -0.1
    scores[4] = [-0.1, -4.0, -3.0]  # for the m, O scores best
    assert tags_to_spans(best_tags([tagging(text, scores)])[0]) == [(2, 7, 0)]


def test_edges_are_at_both_ends_and_next_to_nonletters() -> None:
    assert np.flatnonzero(word_edges("a-b c\u00e9")).tolist() == [0, 1, 2, 3, 4, 6]
    assert word_edges("").tolist() == [True]
