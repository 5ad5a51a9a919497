"""Noise on strings."""

import unicodedata

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.corpus.records import Entity
from cclm_core.noise.edits import INSERTED
from cclm_core.noise.kinds import CATALOGUE
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser, noise_text
from cclm_core.runtime.errors import ConfigError, DataError

LIST = {"the": {"teh": 3}, "don't": {"dont": 1}, "received": {"recieved": 5, "receved": 1}}
NOISERS = {kind: TextNoiser(NoiseRecipe(rate=0.5, kinds=[kind]), LIST) for kind in CATALOGUE}


def typed(text: str, seed: int = 1, **recipe: object) -> str:
    return noise_text(text, NoiseRecipe.parse(recipe, "recipe"), np.random.default_rng(seed)).text


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.sampled_from(sorted(CATALOGUE)), st.integers(0, 99))
def test_any_string_keeps_all_that_was_not_edited(text: str, kind: str, seed: int) -> None:
    result = NOISERS[kind](text, np.random.default_rng(seed))
    assert len(result.source) == len(result.text)
    edited = np.zeros(len(text), dtype=bool)
    for position, consumes in zip(result.edits.positions, result.edits.consumes, strict=True):
        edited[position : position + consumes] = True
    untouched = [place for place, origin in enumerate(result.source) if origin != INSERTED and not edited[origin]]
    assert [result.text[place] for place in untouched] == [text[result.source[place]] for place in untouched]
    assert result.source[untouched].tolist() == np.flatnonzero(~edited).tolist()
    assert len(result.edits.positions) <= NOISERS[kind].eligible(text).sum()


UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=25)


@settings(max_examples=300, deadline=None)
@given(st.lists(UNICODE, min_size=10, max_size=10), st.integers(0, 99))
def test_clusters_stay_whole_under_every_kind(texts: list[str], seed: int) -> None:
    """What a reader sees as one character is never cut in half: 3,000 strings with every kind."""
    for text, (kind, noiser) in zip(texts, list(NOISERS.items())[seed % 4 :], strict=False):
        result = noiser(text, np.random.default_rng(seed))
        places = {origin: place for place, origin in enumerate(result.source.tolist())}
        start = 0
        for cluster in regex.findall(r"\X", text):
            inside = range(start, start + len(cluster))
            start += len(cluster)
            if len(cluster) > 1 and cluster != "\r\n" and not cluster.isascii():
                left = [places[index] for index in inside if index in places]
                assert not left or left == list(range(left[0], left[0] + len(cluster))), kind


def test_letters_outside_ascii_are_noised_among_themselves() -> None:
    added = typed("щука", rate=1, kinds=["insert"])[1::2]
    assert all("CYRILLIC SMALL" in unicodedata.name(letter) for letter in added)
    assert set(typed("ქართული", rate=1, kinds=["insert"])) == set("ქართული")
    assert typed("Öl", rate=1, kinds=["case"]) == "öL"
    assert typed("ж", rate=1, kinds=["keyboard"], layouts=["qwerty", "jcuken"]) in "дэзхю"
    assert typed("ж", rate=1, kinds=["keyboard"]) == "ж"


def test_the_result_depends_on_the_text_alone() -> None:
    """Other texts that were noised before leave no trace."""
    noiser = TextNoiser(NoiseRecipe(rate=0.5, kinds=list(CATALOGUE)), LIST)
    first = noiser("Dvořák 漢 ქარ", np.random.default_rng(4))
    noiser("Дворжак ěščřžýáíé 字 თული", np.random.default_rng(4))
    again = noiser("Dvořák 漢 ქარ", np.random.default_rng(4))
    assert (first.text, first.source.tolist()) == (again.text, again.source.tolist())


def test_entities_move_and_no_edit_tears_one() -> None:
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
    torn = noise_text("modern", NoiseRecipe(rate=1, kinds=["ocr"]), np.random.default_rng(1), [Entity(4, 5, "P")])
    assert torn.text[:2] in ("rn", "nn") and torn.entities[0].end - torn.entities[0].start == 1


def test_spans_and_characters_can_be_protected() -> None:
    recipe = NoiseRecipe(rate=1, kinds=["case"], protected_characters="el")
    assert noise_text("hello all", recipe, np.random.default_rng(1)).text == "HellO All"
    spared = noise_text("hello all", recipe, np.random.default_rng(1), protected=[(0, 2), (4, 5)])
    assert spared.text == "hello All"
    for kind, noiser in NOISERS.items():
        for seed in range(30):
            kept = noiser("the 10 received modern house", np.random.default_rng(seed), protected=[(7, 15)])
            assert "received" in kept.text, kind


def test_whole_words_become_what_people_write() -> None:
    noiser = TextNoiser(NoiseRecipe(rate=1, kinds=["misspelling"]), LIST)
    text = "The other don't, THE then received; the."
    seen = [noiser(text, np.random.default_rng(seed)) for seed in range(60)]
    assert {one.text.split()[0] for one in seen} == {"Teh"}
    assert {one.text for one in seen} == {f"Teh other dont, TEH then {word}; teh." for word in ("recieved", "receved")}
    often = sum("recieved" in one.text for one in seen)
    assert 40 <= often <= 58  # 5 to 1, which the table holds as 8 to 2
    assert noiser("theé the\u0301 a'the the's", np.random.default_rng(1)).text == "theé the\u0301 a'the the's"
    with pytest.raises(ConfigError, match="needs a list of misspellings"):
        noise_text("the", NoiseRecipe(rate=1, kinds=["misspelling"]), np.random.default_rng(1))


def test_a_word_gets_one_edit_at_most() -> None:
    noiser = TextNoiser(NoiseRecipe(rate=1, unit="word", kinds=list(CATALOGUE)), LIST)
    text = "the quick brown fox received 10 letters, don't they?"
    for seed in range(50):
        result = noiser(text, np.random.default_rng(seed))
        # "don" and "t" count as two, unless an edit took both.
        assert noiser.eligible(text).sum() == 9 and len(result.edits.positions) in (8, 9)
        words = [text[:position].count(" ") for position in result.edits.positions.tolist() if position < 40]
        assert words == [0, 1, 2, 3, 4, 6]
    assert typed("a bc.", rate=1, unit="word", kinds=["drop"]) in (" b.", " c.")


def test_the_rate_of_words_is_that_asked_for() -> None:
    noiser = TextNoiser(NoiseRecipe(rate=0.3, unit="word", kinds=["swap", "missing_space"]))
    text = "aa bb 12 abc de, " * 4000
    chances = int(noiser.eligible(text).sum())
    assert chances == 4 * 4000  # each word has letters that differ, or a space between it and the next
    edits = len(noiser(text, np.random.default_rng(1)).edits.positions)
    assert abs(edits - 0.3 * chances) <= 4 * np.sqrt(chances * 0.21)


def test_strings_without_letters_come_back() -> None:
    for text in ("", " ", "\n", "1", "漢", "👩\u200d🚀", "\U0010ffff"):
        result = noise_text(text, NoiseRecipe(rate=1), np.random.default_rng(1))
        assert result.text == text or text == "漢"
    with pytest.raises(DataError, match=r"U\+D800 at character 1"):
        noise_text("a\ud800", NoiseRecipe(rate=1), np.random.default_rng(1))
