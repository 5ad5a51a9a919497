"""The contract of all kinds of noise in the catalogue, and the effect of each."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.noise.confusions import CONFUSIONS
from cclm_core.noise.edits import INSERTED, Noised
from cclm_core.noise.engine import apply, eligible, num_opportunities
from cclm_core.noise.kinds import CATALOGUE
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import LETTER, Choices, SymbolTables
from cclm_core.text.vocabulary import Preprocessor

SENTENCE = "Their friend believes that Weird Science received it."
ALPHABET = "".join(sorted(set(SENTENCE + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0")))
PREPROCESSOR = Preprocessor(alphabet=ALPHABET)
MISSPELLINGS = {
    "their": {"thier": 5, "there": 1},
    "friend": {"freind": 1},
    "received": {"recieved": 2},
    "it": {"its": 1},
}
TABLES = SymbolTables.for_preprocessor(PREPROCESSOR, misspellings=MISSPELLINGS)
KINDS = list(CATALOGUE)


class Expected(NamedTuple):
    """The expected behavior of a kind.

    Attributes:
        golden: `SENTENCE` after noise with rate 0.3 and seed 3. If it changes, so does every noised corpus: never
            change it by accident.
        replacements: returns the possible replacements of consumed characters.
    """

    golden: str
    replacements: Callable[[str], set[str]]


def alternatives(choices: Choices, letter: str) -> set[str]:
    return {PREPROCESSOR.decode([symbol]) for symbol in choices.alternatives(int(PREPROCESSOR.encode(letter)[0]))}


def misspelled(word: str) -> set[str]:
    change = str.capitalize if word.istitle() else str.upper if word.isupper() else str.lower
    return {change(spelling) for spelling in MISSPELLINGS.get(word.lower(), {})}


def confused(table: str) -> Callable[[str], set[str]]:
    return lambda text: {replacement for pattern, replacement in CONFUSIONS[table].pairs() if pattern == text}


# One entry for every kind in the catalogue.
EXPECTED = {
    "swap": Expected(
        "hTeir friedn believes htat Werid cSience erecvide it.",
        lambda pair: {pair[::-1]} if pair.isalpha() and len(set(pair)) == len(pair) == 2 else set(),
    ),
    "drop": Expected(
        "eir frie believe hat Wer cience ev it.",
        lambda text: {""} if text.isalpha() else set(),
    ),
    "insert": Expected(
        "TEhyeir friencdv believesd tmhat Weikrdr SLcience rzeczegiivewdc it.",
        lambda text: {text + letter for letter in alternatives(TABLES.letters, text)},
    ),
    "keyboard": Expected(
        "Rbeir friebc believea yhat Weorc Wcience defrovss it.",
        lambda text: alternatives(TABLES.keys, text),
    ),
    "duplicate": Expected(
        "TThheir frienndd believess tthat Weiirdd SScience rrecceeiiveedd it.",
        lambda text: {2 * text} if text.isalpha() else set(),
    ),
    "case": Expected(
        "tHeir frieND believeS That WeIrD science ReCEIvED it.",
        lambda text: {text.swapcase()} if text.isalpha() else set(),
    ),
    "missing_space": Expected(
        "Their friend believesthat WeirdScience receivedit.",
        lambda text: {""} if text == " " else set(),
    ),
    "extra_space": Expected(
        "T h eir frien d believes t hat Wei rd S cience r ec e i ve d it.",
        lambda text: {text + " "} if text.isalpha() else set(),
    ),
    "homoglyph": Expected(
        "Тһeir frienԁ believeѕ that Weіrԁ Ѕcience reϲеіvеԁ it.",
        confused("homoglyph"),
    ),
    "ocr": Expected(
        "7beir frieriol believea fhat Welrol 5cience neoclvccl it.",
        confused("ocr"),
    ),
    "lookalike": Expected(
        "7heir friend believe5 7hat We1rd 5cience rec31v3d it.",
        confused("lookalike"),
    ),
    "phonetic": Expected(
        "Their friend believez that Weyrd Sience reseyved it.",
        confused("phonetic"),
    ),
    "misspelling": Expected(
        "Thier friend believes that Weird Science recieved it.",
        misspelled,
    ),
}


def test_every_kind_is_in_expected_in_the_order_of_the_catalogue() -> None:
    assert list(EXPECTED) == list(CATALOGUE)


def noised(kind: str, text: str = SENTENCE, rate: float = 0.1, seed: int = 3) -> Noised:
    recipe = NoiseRecipe(rate=rate, kinds=[kind])
    return apply(recipe, PREPROCESSOR.encode(text), TABLES, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_golden_noise(kind: str) -> None:
    assert PREPROCESSOR.decode(noised(kind, rate=0.3).symbols) == EXPECTED[kind].golden


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3, 1.0])
def test_measured_rate_is_the_rate_of_the_recipe(kind: str, rate: float) -> None:
    symbols = PREPROCESSOR.encode(SENTENCE * 2000)
    recipe = NoiseRecipe(rate=rate, kinds=[kind])
    result = apply(recipe, symbols, TABLES, np.random.default_rng(1))
    opportunities = num_opportunities(eligible(recipe, symbols, TABLES), result.edits)
    edits = len(result.edits.positions)
    assert abs(edits - rate * opportunities) <= 4 * math.sqrt(opportunities * rate * (1 - rate))
    assert opportunities >= 8_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "a", "é", "漢", "0", ". !", "ab", "aa", "é" * 5])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_short_texts_and_texts_without_letters(kind: str, text: str, rate: float) -> None:
    result = noised(kind, text, rate)
    check(kind, text, result)
    if rate == 0 or (CATALOGUE[kind].acts_on == LETTER and not set(text) & set("ab")):
        assert PREPROCESSOR.decode(result.symbols) == text
        assert result.source.tolist() == list(range(len(PREPROCESSOR.encode(text))))


@pytest.mark.parametrize("kind", KINDS)
def test_protected_symbols_are_not_edited(kind: str) -> None:
    symbols = PREPROCESSOR.encode(SENTENCE)
    recipe = NoiseRecipe(rate=1, kinds=[kind])
    result = apply(recipe, symbols, TABLES, np.random.default_rng(1), protected=np.ones(len(symbols), dtype=bool))
    assert result.symbols.tolist() == symbols.tolist()
    protected = np.arange(len(symbols)) % 5 < 3
    result = apply(recipe, symbols, TABLES, np.random.default_rng(1), protected=protected)
    assert not protected[result.edits.positions].any()
    is_protected = np.isin(result.source, np.flatnonzero(protected))
    assert is_protected.sum() == protected.sum()
    assert (result.symbols[is_protected] == symbols[result.source[is_protected]]).all()
    assert (np.diff(result.source[is_protected]) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abcXYZ. 0é漢\u0301", max_size=40), st.sampled_from([0.1, 0.5, 1.0]), st.integers(0, 99))
def test_the_edit_map_is_correct(kind: str, text: str, rate: float, seed: int) -> None:
    check(kind, text, noised(kind, text, rate, seed))


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_is_not_mutated_and_the_dtype_is_kept(kind: str) -> None:
    for dtype in (np.uint16, np.int64):
        symbols = PREPROCESSOR.encode(SENTENCE).astype(dtype)
        before = symbols.copy()
        symbols.flags.writeable = False
        result = apply(NoiseRecipe(rate=0.5, kinds=[kind]), symbols, TABLES, np.random.default_rng(1))
        assert result.symbols.dtype == dtype and result.source.dtype == np.int32
        assert (symbols == before).all()
        assert len(result.edits.positions)


def check(kind: str, text: str, result: Noised) -> None:
    """Asserts that each edit makes a replacement of its kind, and that all other symbols are unchanged."""
    symbols = PREPROCESSOR.encode(text).tolist()
    output, source = result.symbols.tolist(), result.source.tolist()
    assert len(source) == len(output)
    kept = [origin for origin in source if origin != INSERTED]
    assert len(set(kept)) == len(kept)
    read = written = 0
    for position, number, consumes, emits in zip(*(part.tolist() for part in result.edits), strict=True):
        untouched = position - read
        assert untouched >= 0
        assert output[written : written + untouched] == symbols[read:position]
        assert source[written : written + untouched] == list(range(read, position))
        written += untouched
        assert list(CATALOGUE)[number] == kind
        emitted = output[written : written + emits]
        replacements = EXPECTED[kind].replacements(PREPROCESSOR.decode(symbols[position : position + consumes]))
        assert emitted in [PREPROCESSOR.encode(replacement).tolist() for replacement in replacements]
        sources = [origin for origin in source[written : written + emits] if origin != INSERTED]
        assert all(position <= origin < position + consumes for origin in sources)
        assert emits == 0 or source[written] != INSERTED
        read, written = position + consumes, written + emits
    assert output[written:] == symbols[read:]
    assert source[written:] == list(range(read, len(symbols)))


def test_swap_exchanges_two_letters_that_differ() -> None:
    result = noised("swap", "ab", 1.0)
    assert PREPROCESSOR.decode(result.symbols) == "ba"
    assert result.source.tolist() == [1, 0]
    assert PREPROCESSOR.decode(noised("swap", "aaa a.b 1a", 1.0).symbols) == "aaa a.b 1a"
    assert PREPROCESSOR.decode(noised("swap", "abcde", 1.0).symbols) == "badce"


def test_drop_removes_letters() -> None:
    assert PREPROCESSOR.decode(noised("drop", "ab 0 c.", 1.0).symbols) == " 0 ."


def test_insert_adds_a_letter_of_the_same_case_after_each_letter() -> None:
    added = [PREPROCESSOR.decode(noised("insert", "aB", 1.0, seed).symbols) for seed in range(300)]
    assert all(len(text) == 4 and text[0] == "a" and text[2] == "B" for text in added)
    assert {text[1] for text in added} == set("abcdefghijklmnopqrstuvwxyz")
    assert {text[3] for text in added} == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert noised("insert", "aB", 1.0).source.tolist() == [0, INSERTED, 1, INSERTED]


def test_keyboard_uses_all_adjacent_keys() -> None:
    typed = [PREPROCESSOR.decode(noised("keyboard", "sP", 1.0, seed).symbols) for seed in range(200)]
    assert {text[0] for text in typed} == set("adwezx")
    assert {text[1] for text in typed} == set("OL")


def test_duplicate_writes_a_letter_twice() -> None:
    result = noised("duplicate", "ab!", 1.0)
    assert PREPROCESSOR.decode(result.symbols) == "aabb!"
    assert result.source.tolist() == [0, INSERTED, 1, INSERTED, 2]


def test_case_changes_the_case() -> None:
    assert PREPROCESSOR.decode(noised("case", "aB 0é", 1.0).symbols) == "Ab 0é"


@pytest.mark.parametrize("kind", KINDS)
def test_descriptions_are_one_sentence(kind: str) -> None:
    description = CATALOGUE[kind].description
    assert description[0].isupper() and description.endswith(".") and "\n" not in description
