"""MinHash signatures of texts.

The share of equal values in two signatures estimates the Jaccard similarity of the texts' sets of character n-grams.
With 112 values the standard error is at most 0.05.

Source: Broder 1997, "On the resemblance and containment of documents"; Penedo et al. 2024, arXiv 2406.17557 (112
hashes for the corpus FineWeb).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cclm_core.text.code_points import code_points

NUM_HASHES = 112
_MIN_RECALL = 0.9  # probability that two texts at the threshold share a band
_GRAMS_PER_BLOCK = 1 << 16  # fits into the processor's cache

_CONSTANTS = np.random.Generator(np.random.PCG64(0x5EED)).integers(1, 2**32, size=(2, NUM_HASHES), dtype=np.uint32)
_FACTORS, _MASKS = _CONSTANTS[0] | np.uint32(1), _CONSTANTS[1]
# Do not replace these with `random.mix64`: another hash would find other near duplicates.
_BASE, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def num_rows(threshold: float) -> int:
    """Returns the number of values in a band: the largest at which texts at the threshold share a band with p ≥ 0.9.

    With r values per band, p = 1 - (1 - threshold^r)^(112 // r).

    >>> num_rows(0.8)
    8
    """
    rows = 1
    while 1 - (1 - threshold ** (rows + 1)) ** (NUM_HASHES // (rows + 1)) >= _MIN_RECALL:
        rows += 1
    return rows


def signatures(texts: Sequence[str], ngram: int) -> npt.NDArray[np.uint32]:
    """Returns the signatures (N, 112) of N texts without NUL characters; a text shorter than `ngram` is one n-gram."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    points = code_points(("\0" * ngram).join([*texts, ""])).astype(np.uint64)
    starts = np.cumsum(lengths + ngram) - (lengths + ngram)
    counts = np.maximum(lengths - ngram + 1, 1)
    result = np.empty((len(texts), NUM_HASHES), dtype=np.uint32)
    begin = 0
    before = np.cumsum(counts) - counts
    while begin < len(texts):
        end = max(begin + 1, int(np.searchsorted(before, before[begin] + _GRAMS_PER_BLOCK)))
        hashes = _gram_hashes(points, starts[begin:end], counts[begin:end], ngram)
        edges = before[begin:end] - before[begin]
        for number in range(NUM_HASHES):
            result[begin:end, number] = np.minimum.reduceat((hashes ^ _MASKS[number]) * _FACTORS[number], edges)
        begin = end
    return result


def band_keys(values: npt.NDArray[np.uint32], threshold: float) -> npt.NDArray[np.uint64]:
    """Returns a 128-bit key of each band, as (N, bands, 2), for signatures (N, 112)."""
    rows = num_rows(threshold)
    bands = NUM_HASHES // rows
    parts = values[:, : bands * rows].reshape(len(values), bands, rows).astype(np.uint64)
    keys = np.empty((len(values), bands, 2), dtype=np.uint64)
    for half, start in enumerate((_BASE, _MIX)):
        state = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64) * start, parts.shape[:2]).copy()
        for row in range(rows):
            state = (state ^ parts[:, :, row]) * (_MIX if half else _BASE)
            state ^= state >> np.uint64(29 + half)
        keys[:, :, half] = state
    return keys


def _gram_hashes(
    points: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], ngram: int
) -> npt.NDArray[np.uint32]:
    """Returns the hashes (G,) of all G n-grams of consecutive texts."""
    first, last = int(starts[0]), int(starts[-1] + counts[-1])
    state = np.zeros(last - first, dtype=np.uint64)
    for offset in range(ngram):
        state = state * _BASE + points[first + offset : last + offset]
    state = (state ^ (state >> np.uint64(31))) * _MIX
    inside = np.repeat(starts - first - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
    hashed: npt.NDArray[np.uint32] = (state[inside] >> np.uint64(32)).astype(np.uint32)
    return hashed
