"""Texts of ids, windows of texts, and the share of tokens in characters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.encoders.pretrained.rows import read_rows
from cclm_core.encoders.pretrained.windows import shares_of, split_text
from cclm_core.text.vocabulary import CLS, MASK
from tests.encoders.pretrained.sources import PREPROCESSOR, ids_of


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5))
@settings(max_examples=15)
def test_rows_are_the_texts_and_every_id_has_its_character(texts: list[str]) -> None:
    ids = ids_of(*texts)
    rows = read_rows(ids, PREPROCESSOR)
    assert rows.texts == texts
    joined, start = "".join(texts), 0
    for row, text in zip(rows.owners, texts, strict=True):
        size = len(PREPROCESSOR.encode(text))
        assert row[:size].tolist() == [start + offset for offset in PREPROCESSOR.offsets(text)]
        assert (row[size:] == len(joined)).all()
        start += len(text)


def test_special_ids_and_cut_characters_are_visible_in_the_text() -> None:
    cut = PREPROCESSOR.encode("漢")[1:].astype(np.int64)
    row = np.concatenate([[CLS], PREPROCESSOR.encode("ab"), [MASK], cut, PREPROCESSOR.encode("c")]).astype(np.int64)
    rows = read_rows(torch.from_numpy(row)[None], PREPROCESSOR)
    assert rows.texts == [" ab\ufffd\ufffd\ufffdc"] and rows.owners.tolist() == [[0, 1, 2, 3, 4, 5, 6]]


def test_bytes_at_the_edges_of_two_rows_do_not_join() -> None:
    first, last = (PREPROCESSOR.encode("ñ").astype(np.int64)[[index]] for index in (0, 1))
    assert read_rows(torch.from_numpy(np.stack([first, last])), PREPROCESSOR).texts == ["\ufffd", "\ufffd"]


@given(st.text("ab ", max_size=200), st.integers(16, 40), st.integers(0, 8))
@settings(max_examples=60)
def test_windows_cover_a_text_in_order(text: str, size: int, overlap: int) -> None:
    windows = split_text(text, size, overlap)
    assert bool(windows) is bool(text)
    covered = 0
    for start, stop in windows:
        assert 0 < stop - start <= size and start <= covered < stop
        covered = stop
    assert covered == len(text)


def test_windows_end_between_words_where_possible() -> None:
    text = "alpha beta gamma delta epsilon " * 4
    assert all(text[stop - 1] == " " for _, stop in split_text(text, 32, 8))


def test_the_shares_of_each_covered_character_sum_to_one() -> None:
    spans = np.array([[0, 0], [0, 2], [2, 3], [2, 3], [0, 1]])
    windows, starts = np.array([0, 0, 0, 0, 1]), np.array([0, 2])
    shares = shares_of(spans, windows, starts, np.array([1, 1, 2, 1]))
    totals = np.bincount(shares.characters, shares.weights, minlength=4)
    assert totals == pytest.approx([1, 1, 1, 0])
