"""Derived generators: draws depend on names, not on order."""

import torch

from cclm_core.runtime.random import derive, derive_seed, seeded_initialization, seeds_of


def test_seeds_depend_on_every_name_and_its_type() -> None:
    assert derive_seed(1, "a", "b") == derive_seed(1, "a", "b")
    seeds = {derive_seed(1, "ab"), derive_seed(1, "a", "b"), derive_seed(2, "a", "b"), derive_seed(1, "a", 1)}
    assert len({*seeds, derive_seed(1, "a", "1")}) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_draws_do_not_change_between_versions() -> None:
    assert derive(7, "noise", 0).integers(1000, size=4).tolist() == [118, 928, 760, 891]


def test_initialization_does_not_change_the_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded_initialization(1):
        weight = torch.nn.Linear(3, 3).weight
    assert torch.equal(torch.rand(3), expected)
    with seeded_initialization(1):
        assert torch.equal(torch.nn.Linear(3, 3).weight, weight)


def test_seeds_of_gives_the_same_seeds_as_derive_seed() -> None:
    for names in ((), ("split",), ("a", 3)):
        assert [seeds_of(7, *names)(last) for last in ("", "x", "é\x1f")] == [
            derive_seed(7, *names, last) for last in ("", "x", "é\x1f")
        ]
