"""Generators derived from one seed by name, so that no draw depends on order, worker or process.

>>> derive(7, "noise", 0).integers(100) == derive(7, "noise", 0).integers(100)
True
>>> derive_seed(7, "noise", 0) == derive_seed(7, "noise", 1)
False
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and on every name, through SHA-256.

    Args:
        seed: the seed of the whole run, any integer.
        names: what the draws are for, from the general to the particular: stage, objective, step.
    """
    text = "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


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
