"""What every kind of noise in the catalogue must hold to, and what each one does."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.noise.catalogue import CATALOGUE
from cclm_core.noise.edits import Noised
from cclm_core.noise.kind import INSERTED
from cclm_core.noise.recipe import NoiseRecipe, apply, eligible
from cclm_core.noise.tables import LETTER, NONE, SymbolTables
from cclm_core.text.vocabulary import FIRST_CHARACTER, Preprocessor

SENTENCE = "Their friend believes that Weird Science received it."
ALPHABET = "".join(sorted(set(SENTENCE + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0")))
PREPROCESSOR = Preprocessor(alphabet=ALPHABET)
TABLES = SymbolTables.for_preprocessor(PREPROCESSOR)
KINDS = sorted(CATALOGUE)

# One line of each kind by the seed 3. A change here changes every corpus that was made with a seed: mean it.
GOLDEN = {
    "case": "THeir friend believEs that Weird Science recEivEd it.",
    "drop": "Teir friend believs that Weird Science recivd it.",
    "duplicate": "Thheir friend believees that Weird Science receeiveed it.",
    "insert": "Thmeir friend believeus that Weird Science receaivesd it.",
    "keyboard": "Tyeir friend believss that Weird Science recwivdd it.",
    "swap": "Tehir friend believse that Weird Science recievde it.",
}


def noised(kind: str, text: str = SENTENCE, rate: float = 0.1, seed: int = 3) -> Noised:
    recipe = NoiseRecipe(rate=rate, kinds=[kind])
    return apply(recipe, PREPROCESSOR.encode(text), TABLES, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_golden(kind: str) -> None:
    assert PREPROCESSOR.decode(noised(kind).symbols) == GOLDEN[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3, 1.0])
def test_the_rate_measured_is_the_rate_asked_for(kind: str, rate: float) -> None:
    symbols = PREPROCESSOR.encode(SENTENCE * 2000)
    recipe = NoiseRecipe(rate=rate, kinds=[kind])
    result = apply(recipe, symbols, TABLES, np.random.default_rng(1))
    edits = len(result.edits.positions)
    # The second letter of a swap has no chance of its own, if it had one at all.
    may = eligible(recipe, symbols, TABLES)
    consumed = may[result.edits.positions + 1].sum() if kind == "swap" else 0
    chances = int(may.sum() - consumed)
    assert abs(edits - rate * chances) <= 4 * math.sqrt(chances * rate * (1 - rate))
    assert chances > 20_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "a", "é", "漢", "0", ". !", "ab", "aa", "é" * 5])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_short_and_letterless_texts(kind: str, text: str, rate: float) -> None:
    result = noised(kind, text, rate)
    check(kind, text, result)
    if rate == 0 or not set(text) & set("ab"):
        assert PREPROCESSOR.decode(result.symbols) == text
        assert result.source.tolist() == list(range(len(PREPROCESSOR.encode(text))))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_protected_stays(kind: str) -> None:
    symbols = PREPROCESSOR.encode(SENTENCE)
    recipe = NoiseRecipe(rate=1, kinds=[kind])
    everything = apply(recipe, symbols, TABLES, np.random.default_rng(1), protected=np.ones(len(symbols), dtype=bool))
    assert everything.symbols.tolist() == symbols.tolist()
    protected = np.arange(len(symbols)) % 5 < 3
    some = apply(recipe, symbols, TABLES, np.random.default_rng(1), protected=protected)
    assert not protected[some.edits.positions].any()
    at = np.isin(some.source, np.flatnonzero(protected))
    assert at.sum() == protected.sum()
    assert (some.symbols[at] == symbols[some.source[at]]).all()
    assert (np.diff(some.source[at]) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abcXYZ. 0é漢\u0301", max_size=40), st.sampled_from([0.1, 0.5, 1.0]), st.integers(0, 99))
def test_the_edit_map_is_true(kind: str, text: str, rate: float, seed: int) -> None:
    check(kind, text, noised(kind, text, rate, seed))


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_is_not_changed_and_the_type_is_kept(kind: str) -> None:
    for dtype in (np.uint16, np.int64):
        symbols = PREPROCESSOR.encode(SENTENCE).astype(dtype)
        before = symbols.copy()
        symbols.flags.writeable = False
        result = apply(NoiseRecipe(rate=0.5, kinds=[kind]), symbols, TABLES, np.random.default_rng(1))
        assert result.symbols.dtype == dtype and result.source.dtype == np.int32
        assert (symbols == before).all()
        assert len(result.edits.positions)


def check(kind: str, text: str, result: Noised) -> None:
    """Each symbol is its source's, or what this kind may make of it; specials and bytes stay in place."""
    symbols = PREPROCESSOR.encode(text)
    source = result.source
    assert len(source) == len(result.symbols)
    kept = source[source != INSERTED]
    assert len(set(kept.tolist())) == len(kept) and (kept >= 0).all() and (kept < len(symbols)).all()
    assert len(kept) == len(symbols) - (len(result.edits.positions) if kind == "drop" else 0)
    for symbol, origin in zip(result.symbols.tolist(), source.tolist(), strict=True):
        if origin == INSERTED:
            assert kind in ("insert", "duplicate") and TABLES.flags[symbol] == LETTER
        elif symbol != symbols[origin]:
            assert symbol in legal(kind, int(symbols[origin]))
    if kind != "swap":
        assert (np.diff(kept) > 0).all()
    else:
        assert (np.abs(source - np.arange(len(symbols))) <= 1).all()
    untouchable = np.flatnonzero(symbols < FIRST_CHARACTER)
    at = np.flatnonzero(np.isin(source, untouchable))
    assert result.symbols[at].tolist() == symbols[untouchable].tolist()
    for left, right in pairwise(untouchable.tolist()):
        if right == left + 1:  # a run of bytes is not cut
            place = int(np.flatnonzero(source == left)[0])
            assert source[place + 1] == right


def legal(kind: str, symbol: int) -> set[int]:
    if kind == "keyboard":
        return TABLES.keys.of(symbol)
    if kind == "case":
        return {int(TABLES.case[symbol])} - {NONE}
    return set()


def test_swap_exchanges_two_letters_that_differ() -> None:
    result = noised("swap", "ab", 1.0)
    assert PREPROCESSOR.decode(result.symbols) == "ba"
    assert result.source.tolist() == [1, 0]
    assert PREPROCESSOR.decode(noised("swap", "aaa a.b 1a", 1.0).symbols) == "aaa a.b 1a"
    assert PREPROCESSOR.decode(noised("swap", "abcde", 1.0).symbols) == "badce"


def test_drop_removes_letters() -> None:
    assert PREPROCESSOR.decode(noised("drop", "ab 0 c.", 1.0).symbols) == " 0 ."


def test_insert_adds_a_letter_of_the_same_case_behind_each() -> None:
    added = [PREPROCESSOR.decode(noised("insert", "aB", 1.0, seed).symbols) for seed in range(300)]
    assert all(len(text) == 4 and text[0] == "a" and text[2] == "B" for text in added)
    assert {text[1] for text in added} == set("abcdefghijklmnopqrstuvwxyz")
    assert {text[3] for text in added} == set("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert noised("insert", "aB", 1.0).source.tolist() == [0, INSERTED, 1, INSERTED]


def test_keyboard_takes_each_neighbouring_key() -> None:
    typed = [PREPROCESSOR.decode(noised("keyboard", "sP", 1.0, seed).symbols) for seed in range(200)]
    assert {text[0] for text in typed} == set("adwezx")
    assert {text[1] for text in typed} == set("OL")


def test_duplicate_writes_a_letter_twice() -> None:
    result = noised("duplicate", "ab!", 1.0)
    assert PREPROCESSOR.decode(result.symbols) == "aabb!"
    assert result.source.tolist() == [0, INSERTED, 1, INSERTED, 2]


def test_case_is_flipped() -> None:
    assert PREPROCESSOR.decode(noised("case", "aB 0é", 1.0).symbols) == "Ab 0é"
