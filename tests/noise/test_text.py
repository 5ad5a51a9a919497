"""Noise on strings."""

import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.errors import DataError
from cclm_core.noise.catalogue import CATALOGUE
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import noise_text, num_eligible
from cclm_core.text.records import Entity


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.sampled_from([0.1, 1.0]), st.sampled_from(sorted(CATALOGUE)), st.integers(0, 99))
def test_any_string_keeps_all_that_was_not_edited(text: str, rate: float, kind: str, seed: int) -> None:
    result = noise_text(text, NoiseRecipe(rate=rate, kinds=[kind]), np.random.default_rng(seed))
    assert len(result.source) == len(result.text)
    edited = set(result.edits.positions.tolist())
    if kind == "swap":
        assert sorted(result.text) == sorted(text)
    for character, origin in zip(result.text, result.source.tolist(), strict=True):
        if origin == -1:
            assert character.isalpha()
        elif kind == "keyboard" and origin in edited:
            assert character != text[origin] and character.isupper() == text[origin].isupper()
        elif kind == "case" and origin in edited:
            assert character == text[origin].swapcase() != text[origin]
        else:
            assert character == text[origin]
    kept = {origin for origin in result.source.tolist() if origin >= 0}
    assert set(range(len(text))) - kept == (edited if kind == "drop" else set())
    assert len(edited) <= num_eligible(text, NoiseRecipe(rate=rate, kinds=[kind])) <= sum(map(str.isalpha, text))


def test_letters_outside_ascii_are_noised_among_themselves() -> None:
    recipe = NoiseRecipe(rate=1, kinds=["insert"])
    added = noise_text("щука", recipe, np.random.default_rng(1)).text[1::2]
    assert set(added) <= set("щука")
    assert noise_text("Öl", NoiseRecipe(rate=1, kinds=["case"]), np.random.default_rng(1)).text == "öL"


def test_the_result_depends_on_the_text_alone() -> None:
    """Other texts that were noised before leave no trace, though alphabets are kept."""
    recipe = NoiseRecipe(rate=0.5)
    first = noise_text("Dvořák", recipe, np.random.default_rng(4))
    noise_text("Дворжак ěščřžýáíé", recipe, np.random.default_rng(4))
    again = noise_text("Dvořák", recipe, np.random.default_rng(4))
    assert (first.text, first.source.tolist()) == (again.text, again.source.tolist())


def test_entities_move_and_no_swap_tears_one() -> None:
    entities = [Entity(0, 3, "P"), Entity(3, 6, "Q")]
    result = noise_text("abcdef", NoiseRecipe(rate=1, kinds=["swap"]), np.random.default_rng(1), entities)
    assert result.text == "bacedf"
    assert result.entities == entities
    lost = noise_text(
        "ab c.", NoiseRecipe(rate=1, kinds=["drop"]), np.random.default_rng(1), [Entity(0, 2, "P"), Entity(3, 5, "Q")]
    )
    assert (lost.text, lost.entities) == (" .", [Entity(1, 2, "Q")])
    longer = noise_text(
        "Rome.", NoiseRecipe(rate=1, kinds=["duplicate"]), np.random.default_rng(1), [Entity(0, 4, "P")]
    )
    assert (longer.text, longer.entities) == ("RRoommee.", [Entity(0, 8, "P")])


def test_whole_accented_letters_stay_whole() -> None:
    text = unicodedata.normalize("NFD", "déjà vu à la carte")
    for seed in range(30):
        result = noise_text(text, NoiseRecipe(rate=1), np.random.default_rng(seed)).text
        clusters = [a + b for a, b in pairwise(result) if unicodedata.combining(b)]
        assert sorted(clusters) == sorted(["e\u0301", "a\u0300", "a\u0300"])


def test_empty_and_impossible_strings() -> None:
    assert noise_text("", NoiseRecipe(rate=1), np.random.default_rng(1))[:2] == ("", [])
    with pytest.raises(DataError, match=r"U\+DC00 at character 1"):
        noise_text("a\udc00", NoiseRecipe(), np.random.default_rng(1))
