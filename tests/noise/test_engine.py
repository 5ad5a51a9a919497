"""Applying recipes: the result does not depend on how a text is split, and draws have the right distribution."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cclm_core.noise.draws import hits, uniform_at
from cclm_core.noise.engine import apply
from cclm_core.noise.kinds import CATALOGUE, TYPING
from cclm_core.noise.recipe import NoiseRecipe
from cclm_core.noise.tables import SymbolTables
from cclm_core.text.vocabulary import END, Preprocessor

WORDS = ["The", "quick", "bröwn", "fox", "jumps", "over", "aa", "I", "10", "e\u0301e", "lazy.", "क्ष", "👩\u200d🚀", "x"]
TEXT = " ".join(np.random.default_rng(1).choice(WORDS, size=6000).tolist())
ALPHABET = set(TEXT) - set("ö👩") | set("abcdefghijklmnopqrstuvwxyz")
PREPROCESSOR = Preprocessor(alphabet="".join(sorted(ALPHABET)))
LIST = {"quick": {"quik": 1}, "the": {"teh": 2}}


@pytest.fixture(scope="module")
def tables() -> SymbolTables:
    return SymbolTables.for_preprocessor(PREPROCESSOR, misspellings=LIST)


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return PREPROCESSOR.encode(TEXT)


@pytest.mark.parametrize("unit", ["character", "word"])
@pytest.mark.parametrize("kinds", [list(TYPING), list(CATALOGUE)])
def test_noise_does_not_depend_on_how_a_text_is_split(
    unit: str, kinds: list[str], ids: np.ndarray, tables: SymbolTables
) -> None:
    recipe = NoiseRecipe.parse({"rate": 0.3, "unit": unit, "kinds": kinds}, "recipe")
    boundaries = np.sort(np.random.default_rng(1).choice(len(ids), 300, replace=False))
    ids = np.insert(ids, boundaries, END)
    boundaries = np.flatnonzero(ids == END) + 1
    whole = apply(recipe, ids, tables, np.random.default_rng(5), starts=boundaries)
    for every in (1, 3, len(boundaries)):
        cuts = [0, *boundaries[::every].tolist(), len(ids)]
        parts = [
            apply(
                recipe,
                ids[a:b],
                tables,
                np.random.default_rng(5),
                starts=boundaries[(boundaries >= a) & (boundaries < b)] - a,
                first=a,
            )
            for a, b in pairwise(cuts)
        ]
        assert np.concatenate([part.symbols for part in parts]).tolist() == whole.symbols.tolist()
        positions = [part.edits.positions + start for part, start in zip(parts, cuts, strict=False)]
        assert np.concatenate(positions).tolist() == whole.edits.positions.tolist()


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**63 - 1),
    st.floats(1e-4, 1),
    st.integers(0, 600_000),
    st.lists(st.integers(0, 400_000), min_size=2),
)
def test_hits_do_not_depend_on_how_a_text_is_split(key: int, rate: float, first: int, cuts: list[int]) -> None:
    cuts = sorted(first + cut for cut in cuts)
    whole = hits(key, rate, cuts[0], cuts[-1] - cuts[0])
    parts = [hits(key, rate, start, end - start) for start, end in pairwise(cuts)]
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_hits_have_the_given_rate_everywhere() -> None:
    for rate in (0.001, 0.05, 0.9):
        positions = hits(11, rate, 1000, 2_000_000)
        assert abs(len(positions) - rate * 2_000_000) <= 4 * np.sqrt(2_000_000 * rate * (1 - rate))
        by_part = np.bincount((positions - 1000) // 100_000, minlength=20)
        assert (np.abs(by_part - rate * 100_000) <= 5 * np.sqrt(100_000 * rate * (1 - rate))).all()


def test_draws_are_uniform_and_differ_by_key() -> None:
    drawn = uniform_at(3, np.arange(100_000))
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert np.abs(np.bincount((drawn * 20).astype(int)) - 5000).max() <= 5 * np.sqrt(5000)
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02
    assert abs(np.corrcoef(drawn, uniform_at(4, np.arange(100_000)))[0, 1]) < 0.02
