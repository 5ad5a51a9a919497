"""Masking: the measured rate and span length are correct, and special ids are never selected."""

import numpy as np
import pytest

from cclm_core.corpus.masking import choose_positions, choose_spans


def runs(mask: np.ndarray) -> np.ndarray:
    flat = np.append(np.append(0, mask.ravel().astype(int)), 0)
    change = np.flatnonzero(np.diff(flat))
    return change[1::2] - change[::2]


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("mean_span", [1.0, 2.5, 6.0])
def test_the_measured_rate_equals_the_configured_rate(rate: float, mean_span: float) -> None:
    ids = np.full((50, 4000), 300)
    mask = choose_spans(ids, rate, mean_span, np.random.default_rng(1))
    # Characters of a span are not independent, so the effective sample size is the number of spans.
    margin = 4 * np.sqrt(rate * (1 - rate) * 2 * mean_span / ids.size)
    assert abs(mask.mean() - rate) < margin


def test_the_measured_mean_span_equals_the_configured_one() -> None:
    mask = choose_spans(np.full((1, 400_000), 300), 0.02, 5.0, np.random.default_rng(2))
    assert runs(mask).mean() == pytest.approx(5.0, rel=0.08)


def test_all_positions_are_equally_likely_and_single_characters_are_independent() -> None:
    generator = np.random.default_rng(4)
    shares = np.mean([choose_spans(np.full((1, 12), 300), 0.4, 3.0, generator)[0] for _ in range(20_000)], axis=0)
    # A row without a span gets one position, which raises all shares equally.
    assert np.ptp(shares) < 0.03
    single = choose_spans(np.full((1, 400_000), 300), 0.3, 1.0, generator)[0]
    assert (single[1:] & single[:-1]).mean() == pytest.approx(0.09, abs=0.004)


def test_choose_positions_and_choose_spans_select_the_same() -> None:
    ids = np.full((7, 33), 300)
    ids[2] = 0
    positions = choose_positions(ids, 0.2, 2.5, np.random.default_rng(5))
    mask = choose_spans(ids, 0.2, 2.5, np.random.default_rng(5))
    assert np.array_equal(np.flatnonzero(mask), positions)
    assert not mask[2].any() and mask.any(axis=1).sum() == 6


def test_special_ids_are_never_selected_and_every_row_has_a_mask() -> None:
    ids = np.full((64, 40), 300)
    ids[:, 20:] = 0
    ids[:, 5] = 3
    mask = choose_spans(ids, 0.01, 2.0, np.random.default_rng(3))
    assert not mask[ids < 4].any()
    assert mask.any(axis=1).all()


def test_without_characters_nothing_is_selected() -> None:
    for shape in ((0, 0), (2, 0), (0, 5), (2, 5)):
        assert not choose_spans(np.zeros(shape, dtype=np.int64), 0.5, 2.0, np.random.default_rng(0)).any()
