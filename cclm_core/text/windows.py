"""Windows of a split, drawn by index arithmetic: batch number k is a function of seed and k alone.

So batches do not depend on how many workers draw them, and training resumes at any batch without a replay.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.errors import DataError
from cclm_core.random import derive
from cclm_core.text.encoded import EncodedSplit
from cclm_core.text.vocabulary import PAD


class WindowBatch(NamedTuple):
    """Rows of text: `ids` (B, L) int64 with 0 behind shorter rows, `tags` (B, L) uint8, `lengths` (B,) int64."""

    ids: npt.NDArray[np.int64]
    tags: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]


class Windows:
    """Windows of at most `length` ids over the documents of a split, a new cut and order each epoch.

    Documents that stand beside each other are read as one text; a window never spans a gap. Every id is in exactly
    one window of an epoch, tails included.

    Args:
        split: the encoded split to read.
        length: ids per window, at least 2.
        variants: read only documents of these variants (those without one always); None reads all.

    Raises:
        DataError: no document is left.
    """

    def __init__(self, split: EncodedSplit, length: int, variants: tuple[str, ...] | None = None) -> None:
        assert length >= 2
        documents = split.documents
        if variants is not None:
            documents = documents[documents["variant"].isna() | documents["variant"].isin(variants)]
        if len(documents) == 0:
            raise DataError(f"a split must hold at least one document of the variants {variants}, found none.")
        starts = documents["start"].to_numpy(np.int64)
        ends = starts + documents["length"].to_numpy(np.int64) + 1  # with the end mark behind each document
        first = np.flatnonzero(np.append(True, starts[1:] != ends[:-1]))
        self.starts, self.ends = starts[first], ends[np.append(first[1:] - 1, len(ends) - 1)]
        self.split, self.length = split, length

    @property
    def num_ids(self) -> int:
        """How many ids an epoch reads."""
        return int((self.ends - self.starts).sum())

    def epoch_windows(self, phase: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For each range of adjacent documents: the number of its first window, and how many there are in all."""
        counts = -(-(self.ends - self.starts + phase) // self.length)
        return np.concatenate([[0], np.cumsum(counts)]), counts

    def batches_per_epoch(self, batch_size: int) -> int:
        """Batches that read every window at least once, whatever the cut."""
        return -(-int(self.epoch_windows(self.length - 1)[1].sum()) // batch_size)

    def batch(self, number: int, batch_size: int, seed: int) -> WindowBatch:
        """Batch `number` (from 0) of a training that draws `batch_size` windows at a time."""
        epoch, within = divmod(number, self.batches_per_epoch(batch_size))
        phase = int(derive(seed, "phase", epoch).integers(self.length))
        bounds, counts = self.epoch_windows(phase)
        places = (np.arange(batch_size, dtype=np.int64) + within * batch_size) % counts.sum()
        order = permute(places, int(counts.sum()), derive(seed, "order", epoch))
        return self._gather(order, bounds, phase)

    def fixed(self, num_windows: int, seed: int) -> WindowBatch:
        """`num_windows` windows of the cut that starts at the first id (fewer if there are fewer), spread by `seed`."""
        bounds, counts = self.epoch_windows(0)
        places = np.arange(min(num_windows, int(counts.sum())), dtype=np.int64)
        return self._gather(permute(places, int(counts.sum()), derive(seed, "fixed")), bounds, 0)

    def _gather(self, order: npt.NDArray[np.int64], bounds: npt.NDArray[np.int64], phase: int) -> WindowBatch:
        ranges = np.searchsorted(bounds, order, side="right") - 1
        begin = self.starts[ranges] + (order - bounds[ranges]) * self.length - phase
        end = np.minimum(begin + self.length, self.ends[ranges])
        begin = np.maximum(begin, self.starts[ranges])
        lengths = end - begin
        inside = np.arange(self.length) < lengths[:, None]
        index = np.where(inside, begin[:, None] + np.arange(self.length), 0)
        ids = np.where(inside, self.split.ids[index], PAD).astype(np.int64)
        tags = np.where(inside, self.split.tags[index], 0).astype(np.uint8)
        return WindowBatch(ids, tags, lengths)


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
