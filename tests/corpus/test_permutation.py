"""The permutation: every position moves to a different place, unlike its own, and the same for the same key."""

import numpy as np
import pytest

from cclm_core.corpus.permutation import permute


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 1000])
def test_it_is_a_permutation(size: int) -> None:
    moved = permute(np.arange(size), size, np.random.default_rng(0))
    assert np.array_equal(np.sort(moved), np.arange(size))


def test_it_shuffles_and_depends_on_the_generator() -> None:
    order = np.arange(1000)
    moved = permute(order, 1000, np.random.default_rng(0))
    assert abs(np.corrcoef(moved, order)[0, 1]) < 0.1
    assert abs(np.corrcoef(np.diff(moved)[1:], np.diff(moved)[:-1])[0, 1] + 0.5) < 0.1, "as of independent draws"
    assert not np.array_equal(permute(order, 1000, np.random.default_rng(1)), moved)


def test_a_position_moves_to_the_same_place_whatever_is_asked_with_it() -> None:
    size = 10**12
    together = permute(np.arange(5), size, np.random.default_rng(3))
    alone = [permute(np.array([position]), size, np.random.default_rng(3))[0] for position in range(5)]
    assert together.tolist() == alone
    assert len(set(alone)) == 5 and all(0 <= place < size for place in alone)


def test_the_arithmetic_stays_so_that_trainings_keep_their_order() -> None:
    assert permute(np.arange(8), 8, np.random.Generator(np.random.PCG64(7))).tolist() == [5, 7, 1, 2, 0, 6, 4, 3]
