"""The baselines for masked characters: probabilities sum to one, and informative neighbors lower the bits."""

import numpy as np
import numpy.typing as npt
import pytest

from cclm_core.evaluation.baselines.base import Masked
from cclm_core.evaluation.baselines.counts import TrigramCounts, UnigramCounts
from cclm_core.evaluation.probes.characters import CharactersProbeConfig, mask_windows
from cclm_core.text.vocabulary import END, MASK, NUM_SPECIAL, Preprocessor

PREPROCESSOR = Preprocessor(alphabet="abcde ")
CONFIG = CharactersProbeConfig(window=64)


def masked_windows(text: str, name: str) -> Masked:
    ids = PREPROCESSOR.encode(text).astype(np.int64)
    return mask_windows(ids[: 40 * 64].reshape(40, 64), CONFIG, 1, name)


def fitted(text: str, num_symbols: int = 20) -> tuple[TrigramCounts, UnigramCounts]:
    trigram, unigram = TrigramCounts(PREPROCESSOR.num_ids, num_symbols), UnigramCounts(PREPROCESSOR.num_ids)
    for model in (trigram, unigram):
        model.fit([PREPROCESSOR.encode(text)], masked_windows(text, "train"))
    return trigram, unigram


def random_text(seed: int = 0, length: int = 5000) -> str:
    return "".join(np.random.default_rng(seed).choice(list("abcde "), length, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1]))


@pytest.mark.parametrize("num_symbols", [2, 20])
@pytest.mark.parametrize(("left", "right"), [("a", "b"), ("a", None), (None, "c"), (None, None), ("é", "a")])
def test_probabilities_sum_to_one(num_symbols: int, left: str | None, right: str | None) -> None:
    trigram, unigram = fitted(random_text(), num_symbols)
    ids = np.arange(NUM_SPECIAL, PREPROCESSOR.num_ids)
    neighbors = [np.full(len(ids), PREPROCESSOR.encode(side)[0] if side else MASK) for side in (left, right)]
    masked = Masked(ids[None], ids, ids, *neighbors)
    assert 0.98 < np.exp2(-trigram.bits(masked)).sum() <= 1 + 1e-9
    assert np.exp2(-unigram.bits(masked)).sum() == pytest.approx(1)


def test_unigram_bits_of_random_text_equal_its_entropy() -> None:
    shares = np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    bits = fitted(random_text(0, 50_000))[1].bits(masked_windows(random_text(1), "test"))
    assert bits.mean() == pytest.approx(-(shares * np.log2(shares)).sum(), abs=0.15)


def test_in_random_text_the_trigram_is_as_good_as_the_unigram() -> None:
    masked, (trigram, unigram) = masked_windows(random_text(1), "test"), fitted(random_text(0, 50_000))
    assert trigram.bits(masked).mean() == pytest.approx(unigram.bits(masked).mean(), abs=0.05)


def test_in_periodic_text_a_visible_neighbor_determines_the_character() -> None:
    trigram, unigram = fitted("abcde " * 800)
    masked = masked_windows("abcde " * 800, "test")
    bits, has_neighbor = trigram.bits(masked), (masked.left != MASK) | (masked.right != MASK)
    assert bits[has_neighbor].mean() < 0.1
    assert bits[~has_neighbor].mean() == pytest.approx(unigram.bits(masked)[~has_neighbor].mean(), abs=0.1)


def test_an_end_mark_counts_as_neighbor_but_is_never_predicted() -> None:
    line: npt.NDArray[np.uint16] = np.append(PREPROCESSOR.encode("abc"), np.uint16(END))
    model = TrigramCounts(PREPROCESSOR.num_ids, 10)
    model.fit([np.tile(line, 1000)], masked_windows("abc" * 1000, "train"))
    assert model.single[model.symbol_of_id[END]] == 0
    assert model.after[model.symbol_of_id[END], model.symbol_of_id[PREPROCESSOR.encode("a")[0]]] > 900
