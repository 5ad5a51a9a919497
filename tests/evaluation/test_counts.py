import numpy as np
import pytest

from cclm_core.evaluation.characters import Masked, mask_windows
from cclm_core.evaluation.config import CharactersProbe
from cclm_core.evaluation.counts import CountModel
from cclm_core.text.vocabulary import END, MASK, NUM_SPECIAL, Preprocessor

PREPROCESSOR = Preprocessor(alphabet="abcde ")
CONFIG = CharactersProbe(window=64)


def windows_of(text, rows=40):
    ids = PREPROCESSOR.encode(text).astype(np.int64)
    return ids[: rows * 64].reshape(rows, 64)


def fitted(text, num_symbols=20):
    model = CountModel([PREPROCESSOR.encode(text)], PREPROCESSOR.num_ids, num_symbols)
    return model.fit(mask_windows(windows_of(text), CONFIG, 1, "train"))


def random_text(seed=0, length=5000):
    return "".join(np.random.default_rng(seed).choice(list("abcde "), length, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1]))


@pytest.mark.parametrize("num_symbols", [2, 20])
@pytest.mark.parametrize(("left", "right"), [("a", "b"), ("a", None), (None, "c"), (None, None), ("é", "a")])
def test_probabilities_of_all_ids_add_up_to_one(num_symbols, left, right):
    model = fitted(random_text(), num_symbols)
    every = np.arange(NUM_SPECIAL, PREPROCESSOR.num_ids)
    sides = [np.full(len(every), PREPROCESSOR.encode(side)[0] if side else MASK) for side in (left, right)]
    total = np.exp2(-model.bits(Masked(every[None], every, every, *sides))).sum()
    assert 0.98 < total <= 1 + 1e-9
    assert np.exp2(-model.unigram_bits(Masked(every[None], every, every, *sides))).sum() == pytest.approx(1)


def test_unigram_bits_of_random_text_are_its_entropy():
    shares = np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    masked = mask_windows(windows_of(random_text(1)), CONFIG, 1, "test")
    model = fitted(random_text(0, 50_000))
    assert model.unigram_bits(masked).mean() == pytest.approx(-(shares * np.log2(shares)).sum(), abs=0.15)


def test_neighbours_tell_nothing_about_random_text_and_do_no_harm():
    masked, model = mask_windows(windows_of(random_text(1)), CONFIG, 1, "test"), fitted(random_text(0, 50_000))
    assert model.bits(masked).mean() == pytest.approx(model.unigram_bits(masked).mean(), abs=0.05)


def test_shown_neighbours_settle_a_text_that_repeats():
    model = fitted("abcde " * 800)
    masked = mask_windows(windows_of("abcde " * 800), CONFIG, 1, "test")
    bits, seen = model.bits(masked), (masked.left != MASK) | (masked.right != MASK)
    assert bits[seen].mean() < 0.1
    assert bits[~seen].mean() == pytest.approx(model.unigram_bits(masked)[~seen].mean(), abs=0.1)


def test_an_end_mark_is_a_neighbour_and_never_predicted():
    line = np.append(PREPROCESSOR.encode("abc"), np.uint16(END))
    ids = np.tile(line, 1000)
    model = CountModel([ids], PREPROCESSOR.num_ids, 10)
    assert model.single[model.symbol_of_id[END]] == 0
    assert model.after[model.symbol_of_id[END], model.symbol_of_id[PREPROCESSOR.encode("a")[0]]] > 900
