"""Random generators derived from one seed by name, so that no draw depends on order, worker or process.

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
    """A 63-bit seed from the SHA-256 of `seed` and `names`.

    Args:
        seed: the seed of the whole run, any integer.
        names: the purpose of the draws, from general to specific: stage, objective, step.
    """
    text = _key(seed, names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


@cache
def seeds_of(seed: int, *names: str | int) -> Callable[[str], int]:
    """A fast function `last -> derive_seed(seed, *names, last)`, for millions of calls.

    >>> seeds_of(7, "split")("hamlet") == derive_seed(7, "split", "hamlet")
    True
    """
    prefix = hashlib.sha256("\x1f".join([_key(seed, names), "str:"]).encode())

    def seed_of(last: str) -> int:
        """The seed for the last name."""
        state = prefix.copy()
        state.update(last.encode())
        return int.from_bytes(state.digest()[:8], "little") >> 1

    return seed_of


def derive(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator (PCG64) seeded with `derive_seed(seed, *names)`."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))


@contextmanager
def seeded_initialization(seed: int) -> Iterator[None]:
    """Seeds the initial weights of modules built in the block; torch's global generator does not change."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        yield


def _key(seed: int, names: tuple[str | int, ...]) -> str:
    return "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])


def mix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mixes the bits of 64-bit integers, (...) uint64; close inputs give unrelated outputs. `values` is not changed.

    Use it to draw at arbitrary positions without a stateful generator.

    Source: the finalizer of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
