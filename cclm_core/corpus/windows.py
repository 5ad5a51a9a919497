"""Windows of a split, drawn by index arithmetic: batch number k is a function of seed and k alone.

So batches do not depend on how many workers draw them, and training resumes at any batch without a replay.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cclm_core.corpus.encoded import EncodedSplit
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import derive
from cclm_core.text.alphabet import PAD

# Places of the seeded order that are looked up at once, for several batches: a few cost NumPy nearly as much.
_BLOCK = 2048

_Index = npt.NDArray[np.int64]


class WindowBatch(NamedTuple):
    """Rows of text: `ids` (B, L) int64 with 0 behind shorter rows, `tags` (B, L) uint8, `lengths` (B,) int64.

    A row may hold several documents, each with the END id behind it: that is how an encoder knows where one begins.
    """

    ids: npt.NDArray[np.int64]
    tags: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]


class Windows:
    """Windows of at most `length` ids over the documents of a split, a new cut and order each epoch.

    The chosen documents are read as one text, in their order, with an END between each and the next, whether or not
    others stand between them in the files; it is cut every `length` ids. So every id is in exactly one window of an
    epoch, tails included, and two rows of an epoch at most are shorter than the others, however short the documents.

    Attention, convolution and n-grams may look across an END: a reader then sees a neighbour that is as often of
    another text as not, learns from the END that it says little, and need not be told which row holds how many texts.

    Attributes:
        starts, ends: (R,) ranges of ids that are read, adjacent documents joined: 16 bytes each are held. All
            documents of a split are one range.

    Args:
        split: the encoded split to read.
        length: ids per window, at least 2.
        variants: read only documents of these variants (those without one always); None reads all.

    Raises:
        DataError: no document is left.
    """

    def __init__(self, split: EncodedSplit, length: int, variants: tuple[str, ...] | None = None) -> None:
        assert length >= 2
        self.split, self.length = split, length
        self._ids, self._tags = np.asarray(split.ids), np.asarray(split.tags)
        if variants is None:
            self.starts, self.ends = np.array([0]), np.array([len(split.ids)])
        else:
            self.starts, self.ends = _ranges(split, variants)
        self._before = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        if self.num_ids == 0:
            raise DataError(f"a split must hold at least one document of the variants {variants}, found none.")
        self._held: tuple[tuple[int, int, int, int], _Index] | None = None

    @property
    def num_ids(self) -> int:
        """How many ids an epoch reads."""
        return int(self._before[-1])

    def num_windows(self, phase: int) -> int:
        """How many windows a cut has whose first window misses its first `phase` ids (0 to `length` - 1)."""
        return -(-(self.num_ids + phase) // self.length)

    def batches_per_epoch(self, batch_size: int) -> int:
        """Batches that read every window at least once, whatever the cut."""
        return -(-self.num_windows(self.length - 1) // batch_size)

    def batch(self, number: int, batch_size: int, seed: int) -> WindowBatch:
        """Batch `number` (from 0) of a training that draws `batch_size` windows at a time."""
        epoch, within = divmod(number, self.batches_per_epoch(batch_size))
        phase = int(derive(seed, "phase", epoch).integers(self.length))
        per_block = max(1, _BLOCK // batch_size)
        block, row = divmod(within, per_block)
        key = (seed, epoch, block, batch_size)
        held = self._held
        if held is None or held[0] != key:
            size = self.num_windows(phase)
            places = (np.arange(per_block * batch_size, dtype=np.int64) + block * per_block * batch_size) % size
            # Replaced whole, never changed: several threads may draw batches.
            self._held = held = (key, permute(places, size, derive(seed, "order", epoch)))
        return self._gather(held[1][row * batch_size : (row + 1) * batch_size], phase)

    def fixed(self, num_windows: int, seed: int) -> WindowBatch:
        """`num_windows` windows of the cut that starts at the first id (fewer if there are fewer), spread by `seed`."""
        return self._gather(self.fixed_order(num_windows, seed), 0)

    def fixed_order(self, num_windows: int, seed: int) -> _Index:
        """The numbers (B,) of the windows that `fixed` draws; window k starts `k * length` ids into the joined text."""
        places = np.arange(min(num_windows, self.num_windows(0)), dtype=np.int64)
        return permute(places, self.num_windows(0), derive(seed, "fixed"))

    def _gather(self, order: _Index, phase: int) -> WindowBatch:
        begins = order * self.length - phase
        ends = np.minimum(begins + self.length, self.num_ids)
        begins = np.maximum(begins, 0)
        lengths = ends - begins
        # The pieces of each row, one in each range that it reaches into.
        first = np.searchsorted(self._before, begins, side="right") - 1
        counts = np.searchsorted(self._before, ends, side="left") - first
        row = np.repeat(np.arange(len(order)), counts)
        ranges = np.arange(len(row)) + np.repeat(first - np.cumsum(counts) + counts, counts)
        piece_begins = np.maximum(begins[row], self._before[ranges])
        sizes = np.minimum(ends[row], self._before[ranges + 1]) - piece_begins
        offsets = self.starts[ranges] - self._before[ranges] + piece_begins - np.cumsum(sizes) + sizes
        index = np.repeat(offsets, sizes) + np.arange(int(lengths.sum()))
        shape = (len(order), self.length)
        ids, tags = self._ids[index], self._tags[index]
        if (lengths == self.length).all():
            return WindowBatch(ids.reshape(shape).astype(np.int64), tags.reshape(shape), lengths)
        inside = np.arange(self.length) < lengths[:, None]
        padded = WindowBatch(np.full(shape, PAD, dtype=np.int64), np.zeros(shape, dtype=np.uint8), lengths)
        padded.ids[inside], padded.tags[inside] = ids, tags
        return padded


def _ranges(split: EncodedSplit, variants: Collection[str]) -> tuple[_Index, _Index]:
    """Starts and ends of the ids of the chosen documents, adjacent ones joined, end marks included."""
    starts, ends = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    with pq.ParquetFile(split.path) as documents:
        for batch in documents.iter_batches(columns=["start", "length", "variant"]):
            variant = batch.column("variant")
            chosen = pc.or_(pc.is_null(variant), pc.is_in(variant, pa.array(list(variants), pa.string())))
            kept = batch.filter(chosen)
            begin = kept.column("start").to_numpy().astype(np.int64)
            end = begin + kept.column("length").to_numpy() + 1  # with the end mark behind each document
            some = _joined(begin, end)
            starts.append(some[0])
            ends.append(some[1])
    return _joined(np.concatenate(starts), np.concatenate(ends))


def _joined(starts: _Index, ends: _Index) -> tuple[_Index, _Index]:
    """[0, 5, 9], [5, 7, 12] → [0, 9], [7, 12]"""
    gaps = starts[1:] != ends[:-1]
    always = np.ones(min(1, len(starts)), dtype=bool)
    return starts[np.append(always, gaps)], ends[np.append(gaps, always)]


def permute(places: npt.NDArray[np.int64], size: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Where `places` go in a pseudo-random permutation of range(size), without holding the permutation.

    A four-round Feistel network over the next power of four, walked until it lands inside the range.

    Source: Black and Rogaway 2002, "Ciphers with arbitrary finite domains", cycle-walking.
    """
    half_bits = max(1, (max(1, size - 1).bit_length() + 1) // 2)
    keys = generator.integers(1, 2**63, size=4, dtype=np.uint64)
    mask = np.uint64(2**half_bits - 1)
    shift = np.uint64(half_bits)
    values = places.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> shift, values[outside] & mask
        for key in keys:
            mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & mask)
        values[outside] = (left << shift) | right
        outside = values >= size
    return values.astype(np.int64)
