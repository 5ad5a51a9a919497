"""Random numbers per text position: reading a text in parts, in any order, gives the same numbers.

>>> uniform_at(7, np.array([3, 4])).tolist() == [*uniform_at(7, np.array([3])), *uniform_at(7, np.array([4]))]
True
>>> [*hits(7, 0.5, 0, 60), *hits(7, 0.5, 60, 40)] == list(hits(7, 0.5, 0, 100))
True
"""

import numpy as np
import numpy.typing as npt

from cclm_core.runtime.random import mix64

_Indices = npt.NDArray[np.int64]

BLOCK = 1 << 18
"""Number of positions whose hits come from one generator. Reading a few positions costs at most one block."""
REDRAW = np.uint64(0x632BE59BD9B4E019)
"""XORed into a key for a second draw at the same position."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: the increment of SplitMix64


def bits_at(key: int, positions: _Indices) -> npt.NDArray[np.uint64]:
    """(E,) 64 random bits for each position; the 64-bit `key` is the seed."""
    return mix64(positions.astype(np.uint64) * _GOLDEN + np.uint64(key))


def to_uniform(random: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """(E,) the upper 32 of 64 random bits as numbers in [0, 1), multiples of 2**-32."""
    return (random >> np.uint64(32)).astype(np.float64) * 2.0**-32


def uniform_at(key: int, positions: _Indices) -> npt.NDArray[np.float64]:
    """(E,) a uniform number in [0, 1) for each position, a multiple of 2**-32."""
    return to_uniform(bits_at(key, positions))


def hits(key: int, rate: float, first: int, length: int) -> _Indices:
    """Samples positions from `first` up to `first + length` (exclusive), each with probability `rate`; sorted.

    Draws the geometric gaps between hits, block by block, so that the cost is proportional to the number of hits.
    """
    if rate == 0 or length == 0:
        return np.empty(0, dtype=np.int64)
    if rate == 1:
        return np.arange(first, first + length)
    last = first + length
    parts = [_block_hits(key, rate, block, last) for block in range(first // BLOCK, (last - 1) // BLOCK + 1)]
    positions = parts[0] if len(parts) == 1 else np.concatenate(parts)
    low, high = np.searchsorted(positions, [first, last])
    return positions[low:high]


def _block_hits(key: int, rate: float, block: int, last: int) -> _Indices:
    """The sorted hits of one block: all before `last`, possibly more."""
    generator = np.random.Generator(np.random.PCG64([key, block]))
    scale = -1 / np.log1p(-rate)
    needed = min(BLOCK, last - block * BLOCK)
    parts: list[_Indices] = []
    reached = -1
    while reached < needed:
        expected = (needed - reached) * rate
        gaps = generator.standard_exponential(int(expected + 4 * np.sqrt(expected)) + 8)
        gaps *= scale
        np.minimum(gaps, BLOCK, out=gaps)
        positions = gaps.astype(np.int64)
        positions[0] += reached
        positions += 1
        np.cumsum(positions, out=positions)
        parts.append(positions)
        reached = int(positions[-1])
    positions = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return positions[: np.searchsorted(positions, BLOCK)] + block * BLOCK
