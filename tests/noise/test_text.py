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


def noise(text: str, seed: int = 1, **recipe: object) -> str:
    return noise_text(text, NoiseRecipe.parse(recipe, "recipe"), np.random.default_rng(seed)).text


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40), st.sampled_from(sorted(CATALOGUE)), st.integers(0, 99))
def test_characters_outside_edits_are_unchanged(text: str, kind: str, seed: int) -> None:
    result = NOISERS[kind](text, np.random.default_rng(seed))
    assert len(result.source) == len(result.text)
    edited = np.zeros(len(text), dtype=bool)
    for position, consumes in zip(result.edits.positions, result.edits.consumes, strict=True):
        edited[position : position + consumes] = True
    untouched = [index for index, origin in enumerate(result.source) if origin != INSERTED and not edited[origin]]
    assert [result.text[index] for index in untouched] == [text[result.source[index]] for index in untouched]
    assert result.source[untouched].tolist() == np.flatnonzero(~edited).tolist()
    assert len(result.edits.positions) <= NOISERS[kind].eligible(text).sum()


UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=25)


def assert_clusters_stay_whole(text: str, kind: str, seed: int) -> None:
    result = NOISERS[kind](text, np.random.default_rng(seed))
    targets = {origin: index for index, origin in enumerate(result.source.tolist())}
    start = 0
    for cluster in regex.findall(r"\X", text):
        inside = range(start, start + len(cluster))
        start += len(cluster)
        if len(cluster) > 1 and cluster != "\r\n" and not cluster.isascii():
            moved = [targets[index] for index in inside if index in targets]
            assert not moved or moved == list(range(moved[0], moved[0] + len(cluster))), kind


@settings(max_examples=300, deadline=None)
@given(st.lists(UNICODE, min_size=10, max_size=10), st.integers(0, 99))
def test_no_kind_splits_grapheme_clusters(texts: list[str], seed: int) -> None:
    for text, kind in zip(texts, list(NOISERS)[seed % 4 :], strict=False):
        assert_clusters_stay_whole(text, kind, seed)


@pytest.mark.parametrize(
    "character",
    [
        pytest.param("\u1acf", id="a mark that Python 3.11 does not know"),
        pytest.param("\U000113d1", id="a sign before a letter that Python 3.11 does not know"),
        pytest.param("\uff9e", id="half-width voiced sound mark"),
        pytest.param("\U0001f3fd", id="skin tone"),
        pytest.param("\U000e0067", id="tag"),
        pytest.param("\u0600", id="Arabic number sign"),
        pytest.param("\u0d4e", id="Malayalam letter before a consonant"),
    ],
)
def test_no_kind_splits_a_rare_grapheme_cluster(character: str) -> None:
    assert len(regex.findall(r"\X", f"A{character}A")) == 2
    for text in (f"000000000A{character}", f"aA{character}A the 0", f"a {character}a,. ", f"{character * 4}a"):
        for kind in NOISERS:
            for seed in range(3):
                assert_clusters_stay_whole(text, kind, seed)


def test_letters_outside_ascii_stay_in_their_script() -> None:
    added = noise("щука", rate=1, kinds=["insert"])[1::2]
    assert all("CYRILLIC SMALL" in unicodedata.name(letter) for letter in added)
    assert set(noise("ქართული", rate=1, kinds=["insert"])) == set("ქართული")
    assert noise("Öl", rate=1, kinds=["case"]) == "öL"
    assert noise("ж", rate=1, kinds=["keyboard"], layouts=["qwerty", "jcuken"]) in "дэзхю"
    assert noise("ж", rate=1, kinds=["keyboard"]) == "ж"


def test_the_result_does_not_depend_on_previous_texts() -> None:
    noiser = TextNoiser(NoiseRecipe(rate=0.5, kinds=list(CATALOGUE)), LIST)
    first = noiser("Dvořák 漢 ქარ", np.random.default_rng(4))
    noiser("Дворжак ěščřžýáíé 字 თული", np.random.default_rng(4))
    again = noiser("Dvořák 漢 ქარ", np.random.default_rng(4))
    assert (first.text, first.source.tolist()) == (again.text, again.source.tolist())


def test_entities_move_and_no_edit_crosses_their_edges() -> None:
    entities = [Entity(0, 3, "P"), Entity(3, 6, "Q")]
    result = noise_text("abcdef", NoiseRecipe(rate=1, kinds=["swap"]), np.random.default_rng(1), entities)
    assert result.text == "bacedf"
    assert result.entities == entities
    dropped = noise_text(
        "ab c.", NoiseRecipe(rate=1, kinds=["drop"]), np.random.default_rng(1), [Entity(0, 2, "P"), Entity(3, 5, "Q")]
    )
    assert (dropped.text, dropped.entities) == (" .", [Entity(1, 2, "Q")])
    duplicated = noise_text(
        "Rome.", NoiseRecipe(rate=1, kinds=["duplicate"]), np.random.default_rng(1), [Entity(0, 4, "P")]
    )
    assert (duplicated.text, duplicated.entities) == ("RRoommee.", [Entity(0, 8, "P")])
    confused = noise_text("modern", NoiseRecipe(rate=1, kinds=["ocr"]), np.random.default_rng(1), [Entity(4, 5, "P")])
    assert confused.text[:2] in ("rn", "nn") and confused.entities[0].end - confused.entities[0].start == 1


def test_spans_and_characters_can_be_protected() -> None:
    recipe = NoiseRecipe(rate=1, kinds=["case"], protected_characters="el")
    assert noise_text("hello all", recipe, np.random.default_rng(1)).text == "HellO All"
    protected = noise_text("hello all", recipe, np.random.default_rng(1), protected=[(0, 2), (4, 5)])
    assert protected.text == "hello All"
    for kind, noiser in NOISERS.items():
        for seed in range(30):
            result = noiser("the 10 received modern house", np.random.default_rng(seed), protected=[(7, 15)])
            assert "received" in result.text, kind


def test_misspellings_replace_whole_words() -> None:
    noiser = TextNoiser(NoiseRecipe(rate=1, kinds=["misspelling"]), LIST)
    text = "The other don't, THE then received; the."
    texts = [noiser(text, np.random.default_rng(seed)).text for seed in range(60)]
    assert {text.split()[0] for text in texts} == {"Teh"}
    assert set(texts) == {f"Teh other dont, TEH then {word}; teh." for word in ("recieved", "receved")}
    frequent = sum("recieved" in text for text in texts)
    assert 40 <= frequent <= 58  # counts of 5 to 1, stored as weights of 8 to 2
    assert noiser("theé the\u0301 a'the the's", np.random.default_rng(1)).text == "theé the\u0301 a'the the's"
    with pytest.raises(ConfigError, match="needs a list of misspellings"):
        noise_text("the", NoiseRecipe(rate=1, kinds=["misspelling"]), np.random.default_rng(1))


def test_unit_word_makes_at_most_one_edit_per_word() -> None:
    noiser = TextNoiser(NoiseRecipe(rate=1, unit="word", kinds=list(CATALOGUE)), LIST)
    text = "the quick brown fox received 10 letters, don't they?"
    for seed in range(50):
        result = noiser(text, np.random.default_rng(seed))
        # "don" and "t" are two words, unless an edit replaces both.
        assert noiser.eligible(text).sum() == 9 and len(result.edits.positions) in (8, 9)
        words = [text[:position].count(" ") for position in result.edits.positions.tolist() if position < 40]
        assert words == [0, 1, 2, 3, 4, 6]
    assert noise("a bc.", rate=1, unit="word", kinds=["drop"]) in (" b.", " c.")


def test_unit_word_edits_words_at_the_rate() -> None:
    noiser = TextNoiser(NoiseRecipe(rate=0.3, unit="word", kinds=["swap", "missing_space"]))
    text = "aa bb 12 abc de, " * 4000
    opportunities = int(noiser.eligible(text).sum())
    assert opportunities == 4 * 4000  # each word has different adjacent letters, or a space before the next word
    edits = len(noiser(text, np.random.default_rng(1)).edits.positions)
    assert abs(edits - 0.3 * opportunities) <= 4 * np.sqrt(opportunities * 0.21)


def test_strings_without_letters_are_unchanged() -> None:
    for text in ("", " ", "\n", "1", "漢", "👩\u200d🚀", "\U0010ffff"):
        result = noise_text(text, NoiseRecipe(rate=1), np.random.default_rng(1))
        assert result.text == text or text == "漢"
    with pytest.raises(DataError, match=r"U\+D800 at character 1"):
        noise_text("a\ud800", NoiseRecipe(rate=1), np.random.default_rng(1))


ROCKET = "\U0001f469\u200d\U0001f680"
BATCH = ["Ask Cassius about Rome.", "", "去北京 12", "a\nb  c", "don\u2019t stop! ", f"e\u0301 {ROCKET}"] * 30


@pytest.mark.parametrize("kind", [*CATALOGUE, None])
@pytest.mark.parametrize("unit", ["character", "word"])
@pytest.mark.filterwarnings("ignore:the kind keyboard")
def test_a_batch_noises_each_text_on_its_own(kind: str | None, unit: str) -> None:
    recipe = NoiseRecipe(rate=0.4, kinds=[kind] if kind else list(CATALOGUE), unit=unit)
    noiser = TextNoiser(recipe, {"about": {"abuot": 1}, "stop": {"stpo": 1}})
    noised = noiser.batch(BATCH, np.random.default_rng(2))
    assert len(noised) == len(BATCH)
    assert [one.text for one in noised] == [one.text for one in noiser.batch(BATCH, np.random.default_rng(2))]
    for text, one in zip(BATCH, noised, strict=True):
        assert len(one.source) == len(one.text) and one.text.count("\n") == text.count("\n")
        assert one.source.max(initial=-1) < len(text)
        assert all(0 <= start < len(text) for start in one.edits.positions.tolist())
        kept = [(index, origin) for index, origin in enumerate(one.source.tolist()) if origin >= 0]
        pairs = zip(one.edits.positions.tolist(), one.edits.consumes.tolist(), strict=True)
        changed = {start + offset for start, consumed in pairs for offset in range(consumed)}
        assert all(one.text[index] == text[origin] for index, origin in kept if origin not in changed)


def test_a_batch_has_the_rate_of_its_recipe_and_moves_entities() -> None:
    texts = ["Ask Cassius about Rome."] * 3000
    spans = [[Entity(4, 11, "PERSON")]] * 3000
    noiser = TextNoiser(NoiseRecipe(rate=0.1, kinds=["duplicate"]))
    noised = noiser.batch(texts, np.random.default_rng(1), spans)
    edits = sum(len(one.edits.positions) for one in noised)
    assert edits / (3000 * int(noiser.eligible(texts[0]).sum())) == pytest.approx(0.1, rel=0.05)
    for one in noised:
        (moved,) = one.entities
        assert set(one.text[moved.start : moved.end]) == set("Casiu")
    assert noiser.batch([], np.random.default_rng(1)) == []
    with pytest.raises(ConfigError, match="entities must have one item for each of 2 texts, got 1"):
        noiser.batch(["a", "b"], np.random.default_rng(1), [[]])
