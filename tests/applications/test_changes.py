"""The differences between a text and its correction."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.applications.changes import Change, changes
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import noise_text

SENTENCE = "the quick brown fox jumps over a lazy dog, and the dog sleeps. "


def applied(text: str, made: list[Change]) -> str:
    """A text after its changes; they must be in order, apart from each other, and not empty."""
    parts, read = [], 0
    for number, change in enumerate(made):
        assert read < change.start or (number == 0 and read <= change.start)
        assert change.start < change.end or change.replacement
        parts += [text[read : change.start], change.replacement]
        read = change.end
    return "".join([*parts, text[read:]])


@given(st.text("ab \n", max_size=40), st.text("ab \n", max_size=40))
def test_the_changes_of_short_texts_make_one_of_the_other(original: str, corrected: str) -> None:
    assert applied(original, changes(original, corrected)) == corrected
    assert changes(original, original) == []


@settings(max_examples=30)
@given(st.lists(st.text("abc", max_size=90), max_size=60), st.lists(st.text("abc", max_size=90), max_size=60))
def test_the_changes_of_long_texts_make_one_of_the_other(old: list[str], new: list[str]) -> None:
    original, corrected = " ".join(old), " ".join(new)
    assert applied(original, changes(original, corrected)) == corrected


@pytest.mark.parametrize("sentence", [SENTENCE, "去北京玩的人很多吃饭了没有", "x"])
@pytest.mark.parametrize("seed", range(4))
def test_the_changes_of_a_noised_text_are_few(sentence: str, seed: int) -> None:
    original = sentence * (4000 // len(sentence))
    noised = noise_text(original, NoiseRecipe(rate=0.02, kinds=["drop", "duplicate"]), np.random.default_rng(seed))
    made = changes(original, noised.text)
    assert applied(original, made) == noised.text
    changed = sum(max(change.end - change.start, len(change.replacement)) for change in made)
    assert changed <= 1.3 * len(noised.edits.positions)


def test_long_texts_take_time_that_grows_with_their_length() -> None:
    original = SENTENCE * 3200  # 200,000 characters; comparing all pairs of characters takes more than ten minutes
    edited = original[:100] + "X" + original[101:100_000] + original[100_003:199_000] + "end " + original[199_000:]
    started = time.process_time()
    made = changes(original, edited)
    assert changes(original, original) == []
    assert time.process_time() - started < 10
    assert applied(original, made) == edited
    assert len(made) <= 5
