"""Generators derived from one seed by name, so that no draw depends on order, worker or process.

>>> derive(7, "noise", 0).integers(100) == derive(7, "noise", 0).integers(100)
True
>>> derive_seed(7, "noise", 0) == derive_seed(7, "noise", 1)
False
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import numpy.typing as npt


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and on every name, through SHA-256.

    Args:
        seed: the seed of the whole run, any integer.
        names: what the draws are for, from the general to the particular: stage, objective, step.
    """
    text = _named(seed, names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


@cache
def seeds_of(seed: int, *names: str | int) -> Callable[[str], int]:
    """What `derive_seed(seed, *names, last)` gives, as a function of `last`, for millions of them.

    >>> seeds_of(7, "split")("hamlet") == derive_seed(7, "split", "hamlet")
    True
    """
    begun = hashlib.sha256("\x1f".join([_named(seed, names), "str:"]).encode())

    def seed_of(last: str) -> int:
        state = begun.copy()
        state.update(last.encode())
        return int.from_bytes(state.digest()[:8], "little") >> 1

    return seed_of


def derive(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator (PCG64) for the purpose that `names` name."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))


@contextmanager
def seeded_initialisation(seed: int) -> Iterator[None]:
    """Modules built in the block get weights that depend on `seed` alone; torch's own generator is left as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        yield


def _named(seed: int, names: tuple[str | int, ...]) -> str:
    return "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])


def mix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mixes the bits of 64-bit integers, (...) uint64: equal inputs give equal outputs, close inputs unrelated ones.

    For random draws at arbitrary positions, which no stateful generator gives. `values` is not changed.

    Source: the finalizer of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
