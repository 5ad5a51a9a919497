"""What every kind of noise in the catalogue must hold to, and what each one does."""

import math

import numpy as np
import pytest
from cclm_core.noise.apply import apply, eligible, num_chances
from cclm_core.noise.catalogue import CATALOGUE
from cclm_core.noise.kind import INSERTED
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.noise.confusions import TABLES as CONFUSIONS
from cclm_core.noise.edits import Noised
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.vocabulary import Preprocessor

SENTENCE = "Their friend believes that Weird Science received it."
LETTERS = ("swap", "drop", "insert", "keyboard", "duplicate", "case", "extra_space")
ALPHABET = "".join(sorted(set(SENTENCE + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0")))
PREPROCESSOR = Preprocessor(alphabet=ALPHABET)
MISSPELLINGS = {
    "their": {"thier": 5, "there": 1},
    "friend": {"freind": 1},
    "received": {"recieved": 2},
    "it": {"its": 1},
}
TABLES = SymbolTables.for_preprocessor(PREPROCESSOR, misspellings=MISSPELLINGS)
KINDS = sorted(CATALOGUE)

# One line of each kind by the seed 3. A change here changes every corpus that was made with a seed: mean it.
GOLDEN = {
    "case": "tHeir frieND believeS That WeIrD science ReCEIvED it.",
    "drop": "eir frie believe hat Wer cience ev it.",
    "duplicate": "TThheir frienndd believess tthat Weiirdd SScience rrecceeiiveedd it.",
    "extra_space": "T h eir frien d believes t hat Wei rd S cience r ec e i ve d it.",
    "homoglyph": "Тһeir frienԁ believeѕ that Weіrԁ Ѕcience reϲеіvеԁ it.",
    "insert": "TEhyeir friencdv believesd tmhat Weikrdr SLcience rzeczegiivewdc it.",
    "keyboard": "Rbeir friebc believea yhat Weorc Wcience defrovss it.",
    "lookalike": "7heir friend believe5 7hat We1rd 5cience rec31v3d it.",
    "missing_space": "Their friend believesthat WeirdScience receivedit.",
    "misspelling": "Thier friend believes that Weird Science recieved it.",
    "ocr": "7beir frieriol believea fhat Welrol 5cience neoclvccl it.",
    "phonetic": "Their friend believez that Weyrd Sience reseyved it.",
    "swap": "hTeir friedn believes htat Werid cSience erecvide it.",
}


def noised(kind: str, text: str = SENTENCE, rate: float = 0.1, seed: int = 3) -> Noised:
    recipe = NoiseRecipe(rate=rate, kinds=[kind])
    return apply(recipe, PREPROCESSOR.encode(text), TABLES, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_golden(kind: str) -> None:
    assert PREPROCESSOR.decode(noised(kind, rate=0.3).symbols) == GOLDEN[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3, 1.0])
def test_the_rate_measured_is_the_rate_asked_for(kind: str, rate: float) -> None:
    symbols = PREPROCESSOR.encode(SENTENCE * 2000)
    recipe = NoiseRecipe(rate=rate, kinds=[kind])
    result = apply(recipe, symbols, TABLES, np.random.default_rng(1))
    chances = num_chances(eligible(recipe, symbols, TABLES), result.edits)
    edits = len(result.edits.positions)
    assert abs(edits - rate * chances) <= 4 * math.sqrt(chances * rate * (1 - rate))
    assert chances >= 8_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "a", "é", "漢", "0", ". !", "ab", "aa", "é" * 5])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_short_and_letterless_texts(kind: str, text: str, rate: float) -> None:
    result = noised(kind, text, rate)
    check(kind, text, result)
    if rate == 0 or (kind in LETTERS and not set(text) & set("ab")):
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
    """Every edit puts what its kind may put there; all else is as it was, specials and bytes included."""
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
        put = tuple(output[written : written + emits])
        assert put in legal(kind, tuple(symbols[position : position + consumes]))
        come_from = [origin for origin in source[written : written + emits] if origin != INSERTED]
        assert all(position <= origin < position + consumes for origin in come_from)
        assert emits == 0 or source[written] != INSERTED
        read, written = position + consumes, written + emits
    assert output[written:] == symbols[read:]
    assert source[written:] == list(range(read, len(symbols)))


def legal(kind: str, consumed: tuple[int, ...]) -> set[tuple[int, ...]]:
    """What a kind may make of some symbols, said a second time."""
    here, text = consumed[0], PREPROCESSOR.decode(consumed)
    match kind:
        case "swap":
            return {consumed[::-1]} if len(set(consumed)) == 2 and text.isalpha() else set()
        case "drop":
            return {()} if text.isalpha() else set()
        case "missing_space":
            return {()} if text == " " else set()
        case "duplicate":
            return {(here, here)} if text.isalpha() else set()
        case "insert":
            return {(here, other) for other in TABLES.letters.ways(here)}
        case "extra_space":
            return {(here, *PREPROCESSOR.encode(" ").tolist())} if text.isalpha() else set()
        case "keyboard" | "case":
            return {(other,) for other in (TABLES.keys if kind == "keyboard" else TABLES.case).ways(here)}
        case "misspelling":
            found = MISSPELLINGS.get(text.lower(), {})
            change = str.capitalize if text.istitle() else str.upper if text.isupper() else str.lower
            return {tuple(PREPROCESSOR.encode(change(spelling)).tolist()) for spelling in found}
        case _:
            return {
                tuple(PREPROCESSOR.encode(other).tolist()) for pattern, other in CONFUSIONS[kind]() if pattern == text
            }


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
