"""Symbol tables: the replacements of each symbol."""

import warnings

import numpy as np
import pytest

from cclm_core.noise.engine import apply, eligible
from cclm_core.noise.keyboards import LAYOUTS, missing_keyboard, neighbors, neighbors_on
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import LETTER, SymbolTables
from cclm_core.noise.text import TextNoiser
from cclm_core.text.vocabulary import FIRST_CHARACTER, Preprocessor


def tables(alphabet: str) -> tuple[dict[str, int], SymbolTables]:
    ids = {character: FIRST_CHARACTER + rank for rank, character in enumerate(alphabet)}
    return ids, SymbolTables.for_preprocessor(Preprocessor(alphabet=alphabet))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_adjacency_of_keys_is_symmetric(layout: str) -> None:
    near = neighbors(layout)
    assert set(near) == {letter for row in LAYOUTS[layout] for letter in row if letter.isalpha()}
    for key, adjacent in near.items():
        assert key not in adjacent and len(set(adjacent)) == len(adjacent) >= 1
        assert all(key in near[neighbor] for neighbor in adjacent)


def test_adjacent_keys_depend_on_the_keyboard() -> None:
    assert set(neighbors("qwerty")["g"]) == set("fhtyvb")
    assert set(neighbors("qwertz")["z"]) == set("tugh")
    assert set(neighbors("azerty")["a"]) == set("zq")
    assert set(neighbors("dvorak")["e"]) == set("oupqj")
    assert set(neighbors("jcuken")["ж"]) == set("дэзхю")
    both = neighbors_on(["qwertz", "jcuken"])
    assert both["y"] == neighbors("qwertz")["y"] and both["ж"] == neighbors("jcuken")["ж"]


@pytest.mark.parametrize(
    ("text", "layouts", "told"),
    [
        ("Привет, мир", ("qwerty",), "CYRILLIC letters: no keyboard of layouts [qwerty] has them; add jcuken"),
        ("שלום", ("qwerty", "jcuken"), "HEBREW letters: no keyboard of layouts [qwerty, jcuken] has them; add hebrew"),
        ("hello", ("jcuken",), "LATIN letters: no keyboard of layouts [jcuken] has them; add qwerty or qwertz or"),
        ("去北京", ("qwerty",), "CJK letters: no keyboard of layouts [qwerty] has them; none has; there are qwerty,"),
        ("hello мир", ("qwerty",), None),
        ("שלום", ("hebrew",), None),
        ("123 !?", ("qwerty",), None),
    ],
)
def test_a_missing_keyboard_is_told(text: str, layouts: tuple[str, ...], told: str | None) -> None:
    message = missing_keyboard(text, layouts)
    assert (message is None) if told is None else (message is not None and told in message)
    noiser = TextNoiser(NoiseRecipe(rate=0.5, kinds=["keyboard"], layouts=layouts))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            noiser(text, np.random.default_rng(1))
    assert [str(warning.message) for warning in caught] == ([] if told is None else [message])


def test_new_keyboards_edit_their_scripts() -> None:
    for layout, text in (("hebrew", "שלום עולם"), ("arabic", "السلام عليكم"), ("turkish", "ağaç"), ("spanish", "año")):
        noised = TextNoiser(NoiseRecipe(rate=1, kinds=["keyboard"], layouts=(layout,)))(text, np.random.default_rng(1))
        assert noised.text != text and len(noised.text) == len(text)


def test_typed_letters_are_in_the_alphabet() -> None:
    ids, symbol_tables = tables("asdé")
    assert set(symbol_tables.keys.alternatives(ids["s"])) == {ids["a"], ids["d"]}
    assert symbol_tables.keys.alternatives(ids["é"]) == []
    assert not symbol_tables.case.counts.any()


def test_adjacent_keys_keep_the_case_of_a_letter() -> None:
    ids, symbol_tables = tables("asASéÉßς1")
    for letter, other_case in ("aA", "Aa", "Éé"):
        assert symbol_tables.case.alternatives(ids[letter]) == [ids[other_case]]
    assert not any(symbol_tables.case.alternatives(ids[character]) for character in "ßς1")
    assert symbol_tables.keys.alternatives(ids["A"]) == [ids["S"]]


def test_inserted_letters_have_the_script_and_case_of_the_letter_before_them() -> None:
    ids, symbol_tables = tables("abABждЖ漢字1")
    assert set(symbol_tables.letters.alternatives(ids["a"])) == {ids["a"], ids["b"]}
    assert set(symbol_tables.letters.alternatives(ids["B"])) == {ids["A"], ids["B"]}
    assert set(symbol_tables.letters.alternatives(ids["ж"])) == {ids["ж"], ids["д"]}
    assert set(symbol_tables.letters.alternatives(ids["漢"])) == {ids["漢"], ids["字"]}
    assert symbol_tables.letters.alternatives(ids["1"]) == []


def test_special_ids_and_bytes_are_not_letters() -> None:
    _, symbol_tables = tables("ab")
    assert not (symbol_tables.flags[:FIRST_CHARACTER] & LETTER).any()


def test_letters_in_grapheme_clusters_are_not_edited() -> None:
    alphabet = "abcdक्षกำ한ᄒ\u1161\u11ab\u0301\u200d👩🚀é "
    preprocessor = Preprocessor(alphabet=alphabet)
    symbol_tables = SymbolTables.for_preprocessor(preprocessor)

    def editable(text: str) -> str:
        return "".join(np.array(list(text))[eligible(NoiseRecipe(), preprocessor.encode(text), symbol_tables)])

    assert editable("abc") == "abc"
    assert editable("ab\u0301c") == "ac"  # a combining accent
    assert editable("क्षक") == "क"  # a conjunct: virama links both letters
    assert editable("กำก") == "ก"
    assert editable("ᄒ\u1161\u11ab한") == "한"  # Hangul typed as parts, and whole
    assert editable("a👩\u200d🚀b") == "ab"
    narrow = Preprocessor(alphabet="ab")
    ids = narrow.encode("ab\u0301a")  # the accent is encoded as bytes
    assert eligible(NoiseRecipe(), ids, SymbolTables.for_preprocessor(narrow)).tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_a_swap_does_not_separate_a_letter_from_its_accent() -> None:
    preprocessor = Preprocessor(alphabet="ab\u0301")
    symbol_tables = SymbolTables.for_preprocessor(preprocessor)
    ids = preprocessor.encode("ab\u0301")
    assert (
        apply(NoiseRecipe(rate=1, kinds=["swap"]), ids, symbol_tables, np.random.default_rng(1)).symbols.tolist()
        == ids.tolist()
    )
