"""What a symbol may become."""

import numpy as np
import pytest

from cclm_core.noise.engine import apply, eligible
from cclm_core.noise.keyboards import LAYOUTS, neighbors, neighbors_on
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import LETTER, SymbolTables
from cclm_core.text.vocabulary import FIRST_CHARACTER, Preprocessor


def tables(alphabet: str) -> tuple[dict[str, int], SymbolTables]:
    ids = {character: FIRST_CHARACTER + rank for rank, character in enumerate(alphabet)}
    return ids, SymbolTables.for_preprocessor(Preprocessor(alphabet=alphabet))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_keys_touch_each_other_mutually(layout: str) -> None:
    near = neighbors(layout)
    assert set(near) == {letter for row in LAYOUTS[layout] for letter in row if letter.isalpha()}
    for key, others in near.items():
        assert key not in others and len(set(others)) == len(others) >= 1
        assert all(key in near[other] for other in others)


def test_what_is_beside_a_key_depends_on_the_keyboard() -> None:
    assert set(neighbors("qwerty")["g"]) == set("fhtyvb")
    assert set(neighbors("qwertz")["z"]) == set("tugh")
    assert set(neighbors("azerty")["a"]) == set("zq")
    assert set(neighbors("dvorak")["e"]) == set("oupqj")
    assert set(neighbors("jcuken")["ж"]) == set("дэзхю")
    both = neighbors_on(["qwertz", "jcuken"])
    assert both["y"] == neighbors("qwertz")["y"] and both["ж"] == neighbors("jcuken")["ж"]


def test_noise_stays_inside_the_alphabet() -> None:
    ids, found = tables("asdé")
    assert set(found.keys.alternatives(ids["s"])) == {ids["a"], ids["d"]}
    assert found.keys.alternatives(ids["é"]) == []
    assert not found.case.counts.any()


def test_case_and_keys_keep_to_each_other() -> None:
    ids, found = tables("asASéÉßς1")
    assert found.case.alternatives(ids["a"]) == [ids["A"]] and found.case.alternatives(ids["A"]) == [ids["a"]]
    assert found.case.alternatives(ids["É"]) == [ids["é"]]
    assert not any(found.case.alternatives(ids[character]) for character in "ßς1")
    assert found.keys.alternatives(ids["A"]) == [ids["S"]]


def test_inserted_letters_have_the_script_and_the_case_of_their_neighbor() -> None:
    ids, found = tables("abABждЖ漢字1")
    assert set(found.letters.alternatives(ids["a"])) == {ids["a"], ids["b"]}
    assert set(found.letters.alternatives(ids["B"])) == {ids["A"], ids["B"]}
    assert set(found.letters.alternatives(ids["ж"])) == {ids["ж"], ids["д"]}
    assert set(found.letters.alternatives(ids["漢"])) == {ids["漢"], ids["字"]}
    assert found.letters.alternatives(ids["1"]) == []


def test_special_ids_and_bytes_are_no_letters() -> None:
    _, found = tables("ab")
    assert not (found.flags[:FIRST_CHARACTER] & LETTER).any()


def test_a_letter_is_left_alone_where_a_cluster_would_be_cut() -> None:
    alphabet = "abcdक्षกำ한ᄒ\u1161\u11ab\u0301\u200d👩🚀é "
    preprocessor = Preprocessor(alphabet=alphabet)
    found = SymbolTables.for_preprocessor(preprocessor)

    def free(text: str) -> str:
        return "".join(np.array(list(text))[eligible(NoiseRecipe(), preprocessor.encode(text), found)])

    assert free("abc") == "abc"
    assert free("ab\u0301c") == "ac"  # a combining accent
    assert free("क्षक") == "क"  # a conjunct: virama links both letters
    assert free("กำก") == "ก"
    assert free("ᄒ\u1161\u11ab한") == "한"  # Hangul typed as parts, and whole
    assert free("a👩\u200d🚀b") == "ab"
    narrow = Preprocessor(alphabet="ab")
    ids = narrow.encode("ab\u0301a")  # the accent arrives as bytes
    assert eligible(NoiseRecipe(), ids, SymbolTables.for_preprocessor(narrow)).tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_a_swap_does_not_take_a_letter_from_its_accent() -> None:
    preprocessor = Preprocessor(alphabet="ab\u0301")
    found = SymbolTables.for_preprocessor(preprocessor)
    ids = preprocessor.encode("ab\u0301")
    assert (
        apply(NoiseRecipe(rate=1, kinds=["swap"]), ids, found, np.random.default_rng(1)).symbols.tolist()
        == ids.tolist()
    )
