"""Derived generators: a name, not an order, decides what is drawn."""

import torch

from cclm_core.runtime.random import derive, derive_seed, seeded_initialisation, seeds_of


def test_names_decide_and_do_not_run_together() -> None:
    assert derive_seed(1, "a", "b") == derive_seed(1, "a", "b")
    seeds = {derive_seed(1, "ab"), derive_seed(1, "a", "b"), derive_seed(2, "a", "b"), derive_seed(1, "a", 1)}
    assert len({*seeds, derive_seed(1, "a", "1")}) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_draws_are_the_same_tomorrow() -> None:
    assert derive(7, "noise", 0).integers(1000, size=4).tolist() == [118, 928, 760, 891]


def test_initialisation_leaves_the_global_generator_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded_initialisation(1):
        one = torch.nn.Linear(3, 3).weight
    assert torch.equal(torch.rand(3), expected)
    with seeded_initialisation(1):
        assert torch.equal(torch.nn.Linear(3, 3).weight, one)


def test_many_seeds_at_once_are_those_asked_for_one_by_one() -> None:
    for names in ((), ("split",), ("a", 3)):
        assert [seeds_of(7, *names)(last) for last in ("", "x", "é\x1f")] == [
            derive_seed(7, *names, last) for last in ("", "x", "é\x1f")
        ]
