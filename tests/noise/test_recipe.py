"""Recipes: valid values, shares of kinds, protections, boundaries of windows."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.noise.edits import move_starts
from cclm_core.noise.engine import apply, eligible
from cclm_core.noise.kinds import CATALOGUE
from cclm_core.noise.recipe import NoiseConfig, NoiseRecipe
from cclm_core.noise.tables import SymbolTables
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.vocabulary import END, MASK, Preprocessor

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
PREPROCESSOR = Preprocessor(alphabet=LETTERS + " .'0")
TABLES = SymbolTables.for_preprocessor(PREPROCESSOR, misspellings={"fox": {"foks": 1}})
TEXT = "The quick brown fox's 10 jumps over The lazy dog. " * 800


def noise(recipe: NoiseRecipe, text: str, seed: int = 1, **arguments: object) -> str:
    ids = PREPROCESSOR.encode(text)
    return PREPROCESSOR.decode(apply(recipe, ids, TABLES, np.random.default_rng(seed), **arguments).symbols)  # type: ignore[arg-type]


def test_weights_are_the_shares_of_the_kinds() -> None:
    recipe = NoiseRecipe(rate=0.2, kinds={"drop": 3, "duplicate": 1})
    result = apply(recipe, PREPROCESSOR.encode(TEXT), TABLES, np.random.default_rng(1))
    names = list(CATALOGUE)
    counts = Counter(names[kind] for kind in result.edits.kinds)
    total = counts.total()
    assert set(counts) == {"drop", "duplicate"}
    assert abs(counts["drop"] - 0.75 * total) <= 4 * math.sqrt(total * 0.75 * 0.25)


def test_the_rate_does_not_depend_on_the_kinds() -> None:
    """If a kind cannot act at a letter, another one does."""
    symbols = PREPROCESSOR.encode("a b c d e f. " * 4000)  # no pair of letters: a swap is impossible
    recipe = NoiseRecipe(rate=0.1, kinds=["swap", "case"])
    result = apply(recipe, symbols, TABLES, np.random.default_rng(1))
    opportunities = int(eligible(recipe, symbols, TABLES).sum())
    assert opportunities == 24_000
    assert abs(len(result.edits.positions) - 0.1 * opportunities) <= 4 * math.sqrt(opportunities * 0.09)
    assert {list(CATALOGUE)[kind] for kind in result.edits.kinds} == {"case"}


def test_the_order_of_kinds_has_no_effect() -> None:
    drop_first = NoiseRecipe(rate=0.3, kinds={"drop": 1, "swap": 2})
    swap_first = NoiseRecipe(rate=0.3, kinds={"swap": 2, "drop": 1})
    assert noise(drop_first, TEXT) == noise(swap_first, TEXT)
    assert canonical_json(drop_first.canonical()) == canonical_json(swap_first.canonical())


def test_the_result_depends_only_on_the_seed() -> None:
    recipe = NoiseRecipe(rate=0.1)
    assert noise(recipe, TEXT, 1) == noise(recipe, TEXT, 1) != noise(recipe, TEXT, 2)


def test_first_and_last_letters_can_be_protected() -> None:
    recipe = NoiseRecipe(rate=1, kinds=["drop"], protect_first=True, protect_last=True)
    assert noise(recipe, "The quick a fox's 10.") == "Te qk a fx's 10."
    assert noise(NoiseRecipe(rate=1, kinds=["swap"], protect_first=True, protect_last=True), "abcd abc") == "acbd abc"
    assert noise(NoiseRecipe(rate=1, kinds=["drop"], protect_first=True), "abc d") == "a d"


def test_short_words_can_be_protected() -> None:
    recipe = NoiseRecipe(rate=1, kinds=["case"], min_word_length=4)
    assert noise(recipe, "the They abcd'efg aa.Long") == "the tHEY ABCD'efg aa.lONG"
    assert noise(NoiseRecipe(rate=1, kinds=["case"], min_word_length=1), "a") == "A"


def test_special_ids_are_never_edited() -> None:
    symbols = np.array([2, *PREPROCESSOR.encode("ab"), MASK, *PREPROCESSOR.encode("cd"), END, 0, 0])
    for seed in range(50):
        result = apply(NoiseRecipe(rate=1), symbols, TABLES, np.random.default_rng(seed))
        assert [symbol for symbol in result.symbols.tolist() if symbol < 4] == [2, MASK, END, 0, 0]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(alphabet="abcdXY .é", max_size=12), min_size=1, max_size=8),
    st.sampled_from([0.2, 1.0]),
    st.sampled_from([["swap"], ["drop"], ["insert"], [*CATALOGUE]]),
    st.integers(0, 99),
)
def test_no_edit_crosses_the_start_of_a_window(rows: list[str], rate: float, kinds: list[str], seed: int) -> None:
    encoded = [PREPROCESSOR.encode(row) for row in rows]
    starts = np.cumsum([0, *map(len, encoded)])[:-1]
    symbols = np.concatenate(encoded)
    recipe = NoiseRecipe(rate=rate, kinds=kinds)
    result = apply(recipe, symbols, TABLES, np.random.default_rng(seed), starts=starts)
    moved = [*move_starts(starts, result.source).tolist(), len(result.symbols)]
    assert moved[0] == 0
    for row, (start, end) in enumerate(pairwise(moved)):
        own = result.source[start:end]
        own = own[own >= 0] - starts[row]
        assert ((own >= 0) & (own < len(encoded[row]))).all()
        if kinds == ["swap"]:
            assert sorted(result.symbols[start:end]) == sorted(encoded[row])


def test_starts_prevent_swaps_across_them() -> None:
    recipe = NoiseRecipe(rate=1, kinds=["swap"])
    assert noise(recipe, "abcd") == "badc"
    assert noise(recipe, "abcd", starts=np.array([0, 1, 3])) == "acbd"
    assert noise(recipe, "abcd", starts=np.array([0, 0, 1, 3, 3, 4])) == "acbd"


def test_all_letters_are_edited_equally_often() -> None:
    ids = PREPROCESSOR.encode("abcdefgh")
    recipe = NoiseRecipe(rate=0.25, kinds=["case"])
    generator = np.random.default_rng(5)
    hits = np.zeros(8)
    for _ in range(4000):
        hits[apply(recipe, ids, TABLES, generator).edits.positions] += 1
    assert (np.abs(hits - 1000) <= 4.5 * math.sqrt(4000 * 0.25 * 0.75)).all()


@pytest.mark.parametrize("rate", [1e-300, 1e-6, 1 - 1e-12])
def test_extreme_rates(rate: float) -> None:
    recipe = NoiseRecipe(rate=rate, kinds=["case"])
    edits = len(apply(recipe, PREPROCESSOR.encode("a" * 5000), TABLES, np.random.default_rng(1)).edits.positions)
    assert edits == (5000 if rate > 0.5 else 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 1.5}, "rate must be less than or equal to 1, got 1.5"),
        ({"rate": -0.1}, "greater than or equal to 0"),
        ({"kinds": ["swpa"]}, "no kind of noise is called 'swpa'; did you mean 'swap'?"),
        ({"kinds": []}, "kinds must contain at least one of swap, drop"),
        ({"kinds": {"swap": 0}}, "weight of swap must be above 0"),
        ({"kinds": {"swap": float("nan")}}, "kinds.swap must be a finite number, got nan"),
        ({"min_word_length": 0}, "min_word_length"),
        ({"unit": "letter"}, "unit"),
        ({"layouts": ["qwertzu"]}, "no keyboard is called 'qwertzu'; did you mean 'qwertz'?"),
        ({"layouts": []}, "layouts"),
        ({"kinds": ["misspelling"], "protect_last": True}, "which replaces whole words"),
        ({"raet": 0.1}, "raet is not a known key; did you mean 'rate'?"),
    ],
)
def test_invalid_recipes_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NoiseRecipe.parse(values, "recipe")


def test_noise_section() -> None:
    values = {"rates": [0.05, 0.2], "kinds": ["drop"], "protect_first": True}
    config = NoiseConfig.parse(values, "params.yaml: noise")
    recipe = config.recipe(0.2)
    assert (recipe.rate, recipe.kinds, recipe.protect_first) == (0.2, {"drop": 1.0}, True)
    for values, message in [
        ({"rates": [0.1, 0.1]}, "rates must differ in their first six digits"),
        ({"rates": [0]}, "greater than 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            NoiseConfig.parse(values, "params.yaml: noise")
