"""Adversarial noise: the attack finds the edit that lowers the score most, and respects protected spans."""

from collections.abc import Sequence

import pytest

from cclm_core.noise.adversarial import attack
from cclm_core.noise.kinds import CATALOGUE, TYPING
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.errors import ConfigError, DataError

DROPS = NoiseRecipe(kinds=["drop"])


def length_and_o(texts: Sequence[str]) -> list[float]:
    return [len(text) + 5 * text.count("o") for text in texts]


def test_attack_finds_the_worst_edit() -> None:
    result = attack("go home", length_and_o, DROPS)
    assert result.text in ("g home", "go hme")
    assert (result.score, result.num_edits, result.num_scored) == (11, 1, 1 + 6)
    two_edits = attack("go home", length_and_o, DROPS, max_edits=2)
    assert (two_edits.text, two_edits.score, two_edits.num_edits) == ("g hme", 5, 2)


def test_text_is_unchanged_if_no_edit_lowers_the_score() -> None:
    result = attack("aaa", lambda texts: [0.0 if text == "aaa" else 1.0 for text in texts], DROPS, max_edits=2)
    assert (result.text, result.num_edits) == ("aaa", 0)
    assert attack("", length_and_o, DROPS) == ("", 0.0, 0, 1)


def test_protected_spans_are_not_edited_after_they_move() -> None:
    result = attack("oxo home", length_and_o, DROPS, max_edits=3, protected=[(4, 8)])
    assert result.text == " home"
    result = attack("goo", length_and_o, NoiseRecipe(kinds=["drop"], protect_first=True, protect_last=True))
    assert result.text == "go"


def test_single_edits_yields_each_edit_of_each_kind_once() -> None:
    noiser = TextNoiser(NoiseRecipe(kinds=list(CATALOGUE)), {"the": {"teh": 9, "hte": 1}})
    text = "the m"
    edits = list(noiser.single_edits(text))
    assert len(set(edits)) == len(edits)
    results = {(edit.kind, text[: edit.start] + edit.replacement + text[edit.end :]) for edit in edits}
    assert {("misspelling", "teh m"), ("misspelling", "hte m"), ("ocr", "the rn"), ("missing_space", "them")} <= results
    assert {("swap", "hte m"), ("extra_space", "t he m"), ("case", "The m"), ("homoglyph", "th\u0435 m")} <= results
    assert sum(kind == "insert" for kind, _ in results) >= 4 * 25
    expected_kinds = {*TYPING, "missing_space", "extra_space", "homoglyph", "ocr", "misspelling"}
    assert {kind for kind, _ in results} >= expected_kinds
    attacked = attack(text, lambda texts: [float(candidate != "teh m") for candidate in texts], noiser)
    assert attacked.text == "teh m"


def test_max_candidates_limits_the_search_to_a_seeded_sample() -> None:
    recipe = NoiseRecipe(kinds=["insert"])
    result = attack("abcdef", length_and_o, recipe, max_candidates=10)
    assert result.num_scored == 11
    assert attack("abcdef", length_and_o, recipe, max_candidates=10) == result


def test_invalid_scorers_and_arguments_are_refused() -> None:
    with pytest.raises(DataError, match="one finite score for each of 1 texts"):
        attack("abc", lambda _: [], DROPS)
    with pytest.raises(DataError, match="finite"):
        attack("abc", lambda texts: [float("nan")] * len(texts), DROPS)
    with pytest.raises(ConfigError, match="max_edits must be at least 1, got 0"):
        attack("abc", length_and_o, DROPS, max_edits=0)
