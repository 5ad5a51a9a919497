"""A pseudo-random permutation of a range, computed position by position without storing it.

Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains": a Feistel network with cycle-walking.
"""

import numpy as np
import numpy.typing as npt


def permute(positions: npt.NDArray[np.int64], size: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Applies a pseudo-random permutation of range(size) to positions.

    A four-round Feistel network permutes the range up to the next power of four. Values outside range(size) go through
    the network again until they are inside.

    Args:
        positions: (N,) int64, each from 0 to `size` - 1.
        size: size of the range, at least 1.
        generator: draws the four round keys. The same state gives the same permutation.

    Returns:
        (N,) int64, each from 0 to `size` - 1; distinct positions give distinct values.
    """
    half_bits = max(1, (max(1, size - 1).bit_length() + 1) // 2)
    keys = generator.integers(1, 2**63, size=4, dtype=np.uint64)
    mask = np.uint64(2**half_bits - 1)
    shift = np.uint64(half_bits)
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> shift, values[outside] & mask
        for key in keys:
            # Do not replace this by `random.mix64`: the batch order of every training depends on it.
            mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & mask)
        values[outside] = (left << shift) | right
        outside = values >= size
    return values.astype(np.int64)
