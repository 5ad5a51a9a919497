"""The definition of a word and the definitions derived from it."""

import re

import numpy as np
import pytest
import regex

from cclm_core.text.alphabet import FIRST_BYTE, FIRST_CHARACTER
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.words import RUN, WORD, alphanumeric, letters, with_apostrophes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("don't, don\u2019t", ["don't", "don\u2019t"]),
        ("'tis the dogs' house''s", ["tis", "the", "dogs", "house", "s"]),
        ("x_1 2nd naïve", ["x", "nd", "naïve"]),
        ("Straße Жук 漢字", ["Straße", "Жук", "漢字"]),
    ],
)
def test_a_word_is_a_run_of_letters_with_apostrophes_inside(text: str, words: list[str]) -> None:
    assert WORD.findall(text) == words
    assert all(WORD.fullmatch(word) for word in words)


def test_runs_may_contain_digits_and_underscores() -> None:
    assert re.findall(with_apostrophes(RUN), "don't x_1 2nd 'tis") == ["don't", "x_1", "2nd", "tis"]


def test_another_regex_engine_finds_the_same_words() -> None:
    text = "Don't x_1 2nd 'tis naïve Жук dogs' \u2019s a''b"
    assert regex.findall(WORD.pattern, text) == WORD.findall(text)


def test_alphanumeric_marks_letters_and_digits() -> None:
    assert alphanumeric("aÉ1²漢 '-_").tolist() == [True] * 5 + [False] * 4
    assert alphanumeric("").shape == (0,)


def test_letters_marks_ids_that_can_be_part_of_a_word() -> None:
    mask = letters(Preprocessor(alphabet=" '-1aé\u2019"))
    assert mask.dtype == np.bool_
    assert not mask[:FIRST_BYTE].any() and mask[FIRST_BYTE:FIRST_CHARACTER].all()
    assert mask[FIRST_CHARACTER:].tolist() == [False, True, False, True, True, True, True]
    assert letters(Preprocessor(alphabet="")).sum() == FIRST_CHARACTER - FIRST_BYTE
