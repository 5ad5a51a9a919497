"""Random numbers that belong to places of a text: the same whatever part of the text is looked at, and in any order.

>>> chances(7, np.array([3, 4])).tolist() == [*chances(7, np.array([3])), *chances(7, np.array([4]))]
True
>>> [*hits(7, 0.5, 0, 60), *hits(7, 0.5, 60, 40)] == list(hits(7, 0.5, 0, 100))
True
"""

import numpy as np
import numpy.typing as npt

_Indices = npt.NDArray[np.int64]

BLOCK = 1 << 18
"""Positions whose hits come from one generator, of which a part costs up to the whole."""

# The finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
AGAIN = np.uint64(0x632BE59BD9B4E019)
"""Put into a key for a second draw at the same place."""
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def bits(key: int, positions: _Indices) -> npt.NDArray[np.uint64]:
    """(E,) 64 random bits for each position, under a key of 64 bits."""
    mixed = positions.astype(np.uint64)
    mixed *= GOLDEN
    mixed += np.uint64(key)
    mixed ^= mixed >> np.uint64(30)
    mixed *= FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def uniform(random: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """(E,) the upper halves of 64 random bits as numbers in [0, 1), multiples of 2**-32."""
    return (random >> np.uint64(32)).astype(np.float64) * 2.0**-32


def chances(key: int, positions: _Indices) -> npt.NDArray[np.float64]:
    """(E,) a uniform number in [0, 1) for each position, a multiple of 2**-32."""
    return uniform(bits(key, positions))


def hits(key: int, rate: float, first: int, length: int) -> _Indices:
    """Those of the positions `first` to `first + length` that are hit, each with probability `rate`; rising.

    By the gaps between hits, which are geometric, so that the cost is that of the hits, block by block.
    """
    if rate == 0 or length == 0:
        return np.empty(0, dtype=np.int64)
    if rate == 1:
        return np.arange(first, first + length)
    last = first + length
    parts = [_block_hits(key, rate, block, last) for block in range(first // BLOCK, (last - 1) // BLOCK + 1)]
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    low, high = np.searchsorted(found, [first, last])
    return found[low:high]


def _block_hits(key: int, rate: float, block: int, last: int) -> _Indices:
    """The hits of one block, at least those before `last`."""
    generator = np.random.Generator(np.random.PCG64([key, block]))
    scale = -1 / np.log1p(-rate)
    wanted = min(BLOCK, last - block * BLOCK)
    parts: list[_Indices] = []
    reached = -1
    while reached < wanted:
        expected = (wanted - reached) * rate
        gaps = generator.standard_exponential(int(expected + 4 * np.sqrt(expected)) + 8)
        gaps *= scale
        np.minimum(gaps, BLOCK, out=gaps)
        places = gaps.astype(np.int64)
        places[0] += reached
        places += 1
        np.cumsum(places, out=places)
        parts.append(places)
        reached = int(places[-1])
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return found[: np.searchsorted(found, BLOCK)] + block * BLOCK
