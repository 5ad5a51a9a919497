"""Masking: the rate asked for is the rate measured, specials stay, spans are as long as they should be."""

import numpy as np
import pytest

from cclm_core.corpus.masking import choose_places, choose_spans


def runs(chosen: np.ndarray) -> np.ndarray:
    flat = np.append(np.append(0, chosen.ravel().astype(int)), 0)
    change = np.flatnonzero(np.diff(flat))
    return change[1::2] - change[::2]


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("mean_span", [1.0, 2.5, 6.0])
def test_the_measured_rate_is_the_rate_asked_for(rate: float, mean_span: float) -> None:
    ids = np.full((50, 4000), 300)
    chosen = choose_spans(ids, rate, mean_span, np.random.default_rng(1))
    # Characters of one span are not independent: the effective sample is the number of spans.
    margin = 4 * np.sqrt(rate * (1 - rate) * 2 * mean_span / ids.size)
    assert abs(chosen.mean() - rate) < margin


def test_spans_have_the_mean_length_asked_for() -> None:
    chosen = choose_spans(np.full((1, 400_000), 300), 0.02, 5.0, np.random.default_rng(2))
    assert runs(chosen).mean() == pytest.approx(5.0, rel=0.08)


def test_every_place_of_a_row_is_as_likely_and_spans_of_one_are_independent() -> None:
    generator = np.random.default_rng(4)
    shares = np.mean([choose_spans(np.full((1, 12), 300), 0.4, 3.0, generator)[0] for _ in range(20_000)], axis=0)
    # A row that drew nothing gets one place, so all shares are raised alike.
    assert np.ptp(shares) < 0.03
    single = choose_spans(np.full((1, 400_000), 300), 0.3, 1.0, generator)[0]
    assert (single[1:] & single[:-1]).mean() == pytest.approx(0.09, abs=0.004)


def test_places_and_masks_are_the_same_choice() -> None:
    ids = np.full((7, 33), 300)
    ids[2] = 0
    places = choose_places(ids, 0.2, 2.5, np.random.default_rng(5))
    chosen = choose_spans(ids, 0.2, 2.5, np.random.default_rng(5))
    assert np.array_equal(np.flatnonzero(chosen), places)
    assert not chosen[2].any() and chosen.any(axis=1).sum() == 6


def test_special_ids_are_never_chosen_and_no_row_is_wasted() -> None:
    ids = np.full((64, 40), 300)
    ids[:, 20:] = 0
    ids[:, 5] = 3
    chosen = choose_spans(ids, 0.01, 2.0, np.random.default_rng(3))
    assert not chosen[ids < 4].any()
    assert chosen.any(axis=1).all()


def test_nothing_to_choose_gives_nothing() -> None:
    for shape in ((0, 0), (2, 0), (0, 5), (2, 5)):
        assert not choose_spans(np.zeros(shape, dtype=np.int64), 0.5, 2.0, np.random.default_rng(0)).any()
