"""Edit maps: spans, tags and windows move with their characters."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.corpus.records import Entity
from cclm_core.noise.edits import entity_edges, move_spans, move_starts, move_tags
from cclm_core.noise.engine import apply
from cclm_core.noise.kinds import CATALOGUE
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.vocabulary import Preprocessor

PREPROCESSOR = Preprocessor(alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .")
TABLES = SymbolTables.for_preprocessor(PREPROCESSOR, misspellings={"a": {"ba": 1}, "ab": {"cde": 2}, "xyz": {"z": 1}})


def source(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


@pytest.mark.parametrize(
    ("edit_map", "expected"),
    [
        (source(0, 1, 2, 3, 4), [(1, 3)]),
        (source(0, 1, -1, 2, 3, 4), [(1, 4)]),  # inserted inside
        (source(0, 1, 2, -1, -1, 3, 4), [(1, 5)]),  # inserted directly after
        (source(0, -1, 1, 2, 3, 4), [(2, 4)]),  # inserted before
        (source(0, 2, 1, 3, 4), [(1, 3)]),  # swapped inside
        (source(0, 2, 3, 4), [(1, 2)]),
        (source(0, 3, 4), []),  # all characters dropped
        (source(), []),
    ],
)
def test_a_span_moves_with_its_characters(edit_map: np.ndarray, expected: list[tuple[int, int]]) -> None:
    moved = move_spans([Entity(1, 3, "P")], edit_map, 5)
    assert moved == [Entity(*span, "P") for span in expected]


@pytest.mark.parametrize(
    ("tags", "edit_map", "expected"),
    [
        ([0, 1, 2, 0], source(0, 1, 2, 3), [0, 1, 2, 0]),
        ([0, 1, 2, 0], source(0, 2, 3), [0, 1, 0]),  # the first letter is dropped: the second gets the B
        ([0, 1, 2, 0], source(0, 1, -1, 2, -1, 3, -1), [0, 1, 2, 2, 2, 0, 0]),
        ([0, 1, 2, 0], source(0, 2, 1, 3), [0, 1, 2, 0]),  # swapped: the entity still begins with B
        ([1, 1, 3, 4], source(0, 1, 2, 3), [1, 1, 3, 4]),  # adjacent entities are not merged
        ([1, 1, 3, 4], source(0, -1, 1, 3), [1, 2, 1, 3]),
        ([2, 2, 0, 3], source(1, 2, 3), [2, 0, 3]),  # cut by the start of the window: no B
        ([4, 2, 2], source(0, 1, 2), [4, 2, 2]),
        ([0, 1, 2, 0, 5, 6], source(0, 3, 5), [0, 0, 5]),
        ([], source(), []),
        ([1, 2], source(), []),
    ],
)
def test_tags_move_with_their_symbols(tags: list[int], edit_map: np.ndarray, expected: list[int]) -> None:
    moved = move_tags(np.array(tags, dtype=np.uint8), edit_map)
    assert moved.tolist() == expected
    assert moved.dtype == np.uint8


def test_entity_edges() -> None:
    assert entity_edges(np.array([0, 1, 2, 0, 0, 3, 1, 2], dtype=np.uint8)).tolist() == [1, 3, 5, 6]
    assert entity_edges(np.array([2, 2, 4, 0], dtype=np.uint8)).tolist() == [0, 2, 3]
    assert entity_edges(np.array([], dtype=np.uint8)).tolist() == []


def test_windows_move_and_can_become_empty() -> None:
    starts = np.array([0, 2, 2, 4, 6])
    assert move_starts(starts, source(0, 1, 2, 3, 4, 5)).tolist() == [0, 2, 2, 4, 6]
    assert move_starts(starts, source(0, -1, 1, -1, 4, 5, -1)).tolist() == [0, 4, 4, 4, 7]
    assert move_starts(starts, source()).tolist() == [0, 0, 0, 0, 0]


@st.composite
def tagged(draw: st.DrawFn) -> tuple[str, list[Entity]]:
    """A text with entities that do not overlap."""
    text = draw(st.text(alphabet="abcdeXYZ .é", min_size=1, max_size=50))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans = [Entity(start, end, draw(st.sampled_from("PQ"))) for start, end in pairwise(edges)]
    return text, [span for span in spans if draw(st.booleans())]


@settings(max_examples=200, deadline=None)
@given(
    tagged(),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.sampled_from([*([kind] for kind in CATALOGUE), list(CATALOGUE)]),
    st.integers(0, 99),
)
def test_spans_and_tags_agree_after_any_noise(
    text_and_spans: tuple[str, list[Entity]], rate: float, kinds: list[str], seed: int
) -> None:
    """Both cover exactly the remaining symbols of each entity and what was inserted after them, without overlap."""
    text, spans = text_and_spans
    symbols = PREPROCESSOR.encode(text)
    offsets = PREPROCESSOR.offsets(text)
    spans = [Entity(*np.searchsorted(offsets, [span.start, span.end]).tolist(), span.label) for span in spans]
    tags = np.zeros(len(symbols), dtype=np.uint8)
    for span in spans:
        tags[span.start : span.end] = 2 if span.label == "P" else 4
        tags[span.start] -= 1
    edges = entity_edges(tags)
    result = apply(NoiseRecipe(rate=rate, kinds=kinds), symbols, TABLES, np.random.default_rng(seed), starts=edges)
    moved_tags = move_tags(tags, result.source)
    moved = iter(move_spans(spans, result.source, len(symbols)))
    from_spans = np.zeros(len(result.symbols), dtype=np.uint8)
    end = 0
    for span in spans:
        remaining = set(range(span.start, span.end)) & set(result.source.tolist())
        if not remaining:
            continue
        new = next(moved)
        assert new.start >= end
        end = new.end
        covered = result.source[new.start : new.end]
        assert set(covered[covered >= 0].tolist()) == remaining
        assert covered[0] >= 0
        from_spans[new.start : new.end] = 2 if new.label == "P" else 4
        from_spans[new.start] -= 1
    assert next(moved, None) is None
    assert moved_tags.tolist() == from_spans.tolist()
