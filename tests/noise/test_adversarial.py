"""The worst case: the attack finds the edit that lowers the score most, and does not edit what is protected."""

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


def test_the_worst_edit_is_found() -> None:
    found = attack("go home", length_and_o, DROPS)
    assert found.text in ("g home", "go hme")
    assert (found.score, found.num_edits, found.num_scored) == (11, 1, 1 + 6)
    both = attack("go home", length_and_o, DROPS, max_edits=2)
    assert (both.text, both.score, both.num_edits) == ("g hme", 5, 2)


def test_without_a_harmful_edit_the_text_is_unchanged() -> None:
    found = attack("aaa", lambda texts: [0.0 if text == "aaa" else 1.0 for text in texts], DROPS, max_edits=2)
    assert (found.text, found.num_edits) == ("aaa", 0)
    assert attack("", length_and_o, DROPS) == ("", 0.0, 0, 1)


def test_protected_spans_stay_and_move() -> None:
    found = attack("oxo home", length_and_o, DROPS, max_edits=3, protected=[(4, 8)])
    assert found.text == " home"
    first = attack("goo", length_and_o, NoiseRecipe(kinds=["drop"], protect_first=True, protect_last=True))
    assert first.text == "go"


def test_every_way_of_every_kind_is_tried_once() -> None:
    noiser = TextNoiser(NoiseRecipe(kinds=list(CATALOGUE)), {"the": {"teh": 9, "hte": 1}})
    text = "the m"
    edits = list(noiser.single_edits(text))
    assert len(set(edits)) == len(edits)
    made = {(edit.kind, text[: edit.start] + edit.replacement + text[edit.end :]) for edit in edits}
    assert {("misspelling", "teh m"), ("misspelling", "hte m"), ("ocr", "the rn"), ("missing_space", "them")} <= made
    assert {("swap", "hte m"), ("extra_space", "t he m"), ("case", "The m"), ("homoglyph", "th\u0435 m")} <= made
    assert sum(kind == "insert" for kind, _ in made) >= 4 * 25
    assert {kind for kind, _ in made} >= {*TYPING, "missing_space", "extra_space", "homoglyph", "ocr", "misspelling"}
    found = attack(text, lambda texts: [float(one != "teh m") for one in texts], noiser)
    assert found.text == "teh m"


def test_of_too_many_edits_a_seeded_sample_is_tried() -> None:
    recipe = NoiseRecipe(kinds=["insert"])
    found = attack("abcdef", length_and_o, recipe, max_candidates=10)
    assert found.num_scored == 11
    assert attack("abcdef", length_and_o, recipe, max_candidates=10) == found


def test_a_scorer_must_score_every_text() -> None:
    with pytest.raises(DataError, match="one finite score for each of 1 texts"):
        attack("abc", lambda _: [], DROPS)
    with pytest.raises(DataError, match="finite"):
        attack("abc", lambda texts: [float("nan")] * len(texts), DROPS)
    with pytest.raises(ConfigError, match="max_edits must be at least 1, got 0"):
        attack("abc", length_and_o, DROPS, max_edits=0)
