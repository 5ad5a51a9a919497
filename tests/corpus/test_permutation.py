"""The permutation: one to one, shuffled, and determined by the generator."""

import numpy as np
import pytest

from cclm_core.corpus.permutation import permute


@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 1000])
def test_every_value_occurs_once(size: int) -> None:
    moved = permute(np.arange(size), size, np.random.default_rng(0))
    assert np.array_equal(np.sort(moved), np.arange(size))


def test_it_shuffles_and_depends_on_the_generator() -> None:
    order = np.arange(1000)
    moved = permute(order, 1000, np.random.default_rng(0))
    assert abs(np.corrcoef(moved, order)[0, 1]) < 0.1
    assert abs(np.corrcoef(np.diff(moved)[1:], np.diff(moved)[:-1])[0, 1] + 0.5) < 0.1, "as for independent draws"
    assert not np.array_equal(permute(order, 1000, np.random.default_rng(1)), moved)


def test_a_value_does_not_depend_on_the_other_positions_of_the_call() -> None:
    size = 10**12
    together = permute(np.arange(5), size, np.random.default_rng(3))
    alone = [permute(np.array([position]), size, np.random.default_rng(3))[0] for position in range(5)]
    assert together.tolist() == alone
    assert len(set(alone)) == 5 and all(0 <= value < size for value in alone)


def test_the_values_do_not_change_between_versions() -> None:
    assert permute(np.arange(8), 8, np.random.Generator(np.random.PCG64(7))).tolist() == [5, 7, 1, 2, 0, 6, 4, 3]
