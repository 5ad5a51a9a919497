"""Lookup tables: matching sequences, and aligning them with their replacements."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.noise.edits import INSERTED
from cclm_core.noise.lookup import Lookup, Match, align

WORDS = st.text(alphabet="abc", max_size=9)


def distance(text: str, replacement: str) -> int:
    """The optimal string alignment distance, by its recursive definition."""

    @cache
    def cost(row: int, column: int) -> int:
        if row * column == 0:
            return row + column
        differs = text[row - 1] != replacement[column - 1]
        costs = [cost(row - 1, column - 1) + differs, cost(row - 1, column) + 1, cost(row, column - 1) + 1]
        if min(row, column) > 1 and text[row - 2 : row] == replacement[column - 2 : column][::-1]:
            costs.append(cost(row - 2, column - 2) + 1)
        return min(costs)

    return cost(len(text), len(replacement))


def num_edits(text: str, replacement: str, offsets: Sequence[int]) -> int:
    """The number of edits that an alignment describes."""
    num_inserted = sum(offset == INSERTED for offset in offsets)
    edits, index = num_inserted + len(text) - (len(offsets) - num_inserted), 0
    while index < len(offsets):
        if offsets[index] > 0 and offsets[index + 1 : index + 2] == (offsets[index] - 1,):
            edits, index = edits + 1, index + 1
        elif offsets[index] != INSERTED:
            edits += text[offsets[index]] != replacement[index]
        index += 1
    return edits


@settings(max_examples=500, deadline=None)
@given(WORDS, WORDS)
def test_an_alignment_has_the_fewest_edits(text: str, replacement: str) -> None:
    offsets = align(text, replacement)
    aligned = [offset for offset in offsets if offset != INSERTED]
    assert len(offsets) == len(replacement) and len(set(aligned)) == len(aligned)
    # The first item always has a source, which adds at most one substitution.
    assert distance(text, replacement) <= num_edits(text, replacement, offsets) <= distance(text, replacement) + 1
    assert not text or not replacement or offsets[0] != INSERTED
    assert align([ord(item) for item in text], tuple(map(ord, replacement))) == offsets


def symbols(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def longest(table: dict[str, dict[str, int]], text: str, reach: int = 9) -> list[tuple[int, int]]:
    """For each position of a text, the length of the longest match and the number of its weighted replacements."""
    lookup = Lookup(
        {
            symbols(key): {symbols(replacement): weight for replacement, weight in replacements.items()}
            for key, replacements in table.items()
        }
    )
    match = lookup.longest(
        np.array(symbols(text), dtype=np.int64),
        lambda offset: np.array(symbols(text[offset:].ljust(len(text))), dtype=np.int64),
        np.minimum(reach, len(text) - np.arange(len(text))).astype(np.uint8),
    )
    return list(zip(match.consumes.tolist(), match.counts.tolist(), strict=True))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 3)), st.text("abcd", max_size=20))
def test_longest_match(table: dict[str, int], text: str) -> None:
    expected = []
    for start in range(len(text)):
        key = max((key for key in table if text.startswith(key, start)), key=len, default="")
        expected.append((len(key), table.get(key, 0)))
    assert longest({key: {"x": weight} for key, weight in table.items()}, text) == expected


def test_matches_are_within_reach() -> None:
    table = {"a": {"x": 1}, "abc": {"y": 1, "z": 4}}
    assert longest(table, "abc") == [(3, 5), (0, 0), (0, 0)]
    assert longest(table, "abc", reach=2) == [(1, 1), (0, 0), (0, 0)]
    assert longest({}, "abc") == [(0, 0)] * 3


def test_only_whole_words_match() -> None:
    lookup = Lookup({symbols("the"): {symbols("teh"): 3, symbols("t"): 1}, symbols("a"): {(): 1}})
    text = np.array(symbols("the a then an"))
    positions = np.array([0, 4, 6, 11])

    def continues(at: np.ndarray) -> np.ndarray:
        return (at < len(text)) & (text.take(at, mode="clip") != ord(" "))

    match = lookup.words(positions, text[positions], lambda at: text.take(at, mode="clip"), continues)
    assert match.consumes.tolist() == [3, 1, 0, 0] and match.counts.tolist() == [4, 1, 0, 0]

    emission = lookup.emission(Match(*(part[[0, 0, 1]] for part in match)), np.array([2, 3, 0]))
    lengths = np.broadcast_to(emission.lengths, 3).tolist()
    output = [[column[edit] for column in emission.symbols][:length] for edit, length in enumerate(lengths)]
    assert output == [list(symbols("teh")), list(symbols("t")), []]
    assert np.broadcast_to(emission.consumes, 3).tolist() == [3, 3, 1]
    assert [np.broadcast_to(offsets, 3)[0] for offsets in emission.offsets] == [0, 2, 1]
