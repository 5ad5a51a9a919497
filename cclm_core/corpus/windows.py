"""Windows of a split, computed by index arithmetic: batch k is a function of the seed and k.

Batches do not depend on the number of workers, and training resumes at any batch without replaying earlier ones.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cclm_core.corpus.encoded_split import EncodedSplit
from cclm_core.corpus.permutation import permute
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import derive
from cclm_core.text.alphabet import PAD

# Positions of the shuffled order per call, for several batches: NumPy takes nearly as long for a few.
_BLOCK = 2048

_Index = npt.NDArray[np.int64]


class Origin(NamedTuple):
    """Where the ids of a batch come from.

    Attributes:
        split: the encoded split.
        positions: (B, L) int64, the position of each id in the split; 0 for padding.
    """

    split: EncodedSplit
    positions: npt.NDArray[np.int64]


class WindowBatch(NamedTuple):
    """A batch of rows of text. A row can contain several documents, each followed by the END id.

    Attributes:
        ids: (B, L) int64, padded with 0.
        tags: (B, L) uint8, padded with 0.
        lengths: (B,) int64, the number of ids of each row, padding excluded.
        origin: where the ids come from; None for rows that were put together.
    """

    ids: npt.NDArray[np.int64]
    tags: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]
    origin: Origin | None = None

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.ids)

    def rows(self, start: int, stop: int) -> "WindowBatch":
        """The rows from `start` to `stop`, `stop` excluded."""
        origin = self.origin and self.origin._replace(positions=self.origin.positions[start:stop])
        return WindowBatch(self.ids[start:stop], self.tags[start:stop], self.lengths[start:stop], origin)


class Windows:
    """Windows of `length` ids over the documents of a split, with new boundaries and a new order each epoch.

    The selected documents, each followed by an END, are concatenated and cut every `length` ids. Every id is in exactly
    one window per epoch. At most two windows per epoch are shorter, even if the documents are short.

    Encoders can look across an END. A model learns that the text after it is unrelated, so rows need no mask between
    documents.

    Attributes:
        starts, ends: (R,) int64, the ranges of ids to read, adjacent documents joined; 16 bytes of memory per range.
            Without `variants`, there is a single range.

    Args:
        split: the encoded split.
        length: ids per window, at least 2.
        variants: read only the documents of these variants and those without a variant; None reads all.
        moving: whether boundaries differ from epoch to epoch; if not, all epochs have the windows of `fixed`.

    Raises:
        DataError: no document is selected.
    """

    def __init__(
        self, split: EncodedSplit, length: int, variants: tuple[str, ...] | None = None, moving: bool = True
    ) -> None:
        assert length >= 2
        self.moving = moving
        self.split, self.length = split, length
        self._ids, self._tags = np.asarray(split.ids), np.asarray(split.tags)
        if variants is None:
            self.starts, self.ends = np.array([0]), np.array([len(split.ids)])
        else:
            self.starts, self.ends = _ranges(split, variants)
        self._before = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        if self.num_ids == 0:
            raise DataError(
                f"no document of the variants {variants} found in {split.path}. Use other variants, or null for all."
            )
        self._block: tuple[tuple[int, int, int, int], _Index] | None = None

    @property
    def num_ids(self) -> int:
        """The number of ids in an epoch."""
        return int(self._before[-1])

    def num_windows(self, phase: int) -> int:
        """The number of windows if the first window is shorter by `phase` ids (0 to `length` - 1)."""
        return -(-(self.num_ids + phase) // self.length)

    def batches_per_epoch(self, batch_size: int) -> int:
        """The number of batches that cover every window at least once, at any phase."""
        return -(-self.num_windows(self.length - 1 if self.moving else 0) // batch_size)

    def batch(self, number: int, batch_size: int, seed: int) -> WindowBatch:
        """Batch `number` (from 0) of a training with `batch_size` windows per batch."""
        epoch, within = divmod(number, self.batches_per_epoch(batch_size))
        phase = int(derive(seed, "phase", epoch).integers(self.length)) if self.moving else 0
        per_block = max(1, _BLOCK // batch_size)
        block, row = divmod(within, per_block)
        key = (seed, epoch, block, batch_size)
        cached = self._block
        if cached is None or cached[0] != key:
            size = self.num_windows(phase)
            positions = (np.arange(per_block * batch_size, dtype=np.int64) + block * per_block * batch_size) % size
            # Replace the tuple and never modify it: several threads draw batches.
            self._block = cached = (key, permute(positions, size, derive(seed, "order", epoch)))
        return self._gather(cached[1][row * batch_size : (row + 1) * batch_size], phase)

    def fixed(self, num_windows: int, seed: int) -> WindowBatch:
        """A random sample of `num_windows` windows of phase 0, or all windows if there are fewer."""
        return self._gather(self.fixed_order(num_windows, seed), 0)

    def fixed_order(self, num_windows: int, seed: int) -> _Index:
        """The numbers (B,) of the windows of `fixed`. Window k starts at id `k * length` of the joined documents."""
        positions = np.arange(min(num_windows, self.num_windows(0)), dtype=np.int64)
        return permute(positions, self.num_windows(0), derive(seed, "fixed"))

    def _gather(self, order: _Index, phase: int) -> WindowBatch:
        begins = order * self.length - phase
        ends = np.minimum(begins + self.length, self.num_ids)
        begins = np.maximum(begins, 0)
        lengths = ends - begins
        # Each row consists of one piece per range that it overlaps.
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
            origin = Origin(self.split, index.reshape(shape))
            return WindowBatch(ids.reshape(shape).astype(np.int64), tags.reshape(shape), lengths, origin)
        inside = np.arange(self.length) < lengths[:, None]
        origin = Origin(self.split, np.zeros(shape, dtype=np.int64))
        padded = WindowBatch(np.full(shape, PAD, dtype=np.int64), np.zeros(shape, dtype=np.uint8), lengths, origin)
        padded.ids[inside], padded.tags[inside], origin.positions[inside] = ids, tags, index
        return padded


def _ranges(split: EncodedSplit, variants: Collection[str]) -> tuple[_Index, _Index]:
    """The ranges of ids of the selected documents, each END included, adjacent documents joined."""
    starts, ends = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for group in split.document_groups(["start", "length", "variant"]):
        variant = group.column("variant")
        selected = group.filter(pc.or_(pc.is_null(variant), pc.is_in(variant, pa.array(list(variants), pa.string()))))
        begin = selected.column("start").to_numpy().astype(np.int64)
        end = begin + selected.column("length").to_numpy() + 1  # END included
        joined = _joined(begin, end)
        starts.append(joined[0])
        ends.append(joined[1])
    return _joined(np.concatenate(starts), np.concatenate(ends))


def _joined(starts: _Index, ends: _Index) -> tuple[_Index, _Index]:
    """Joins adjacent ranges: starts [0, 5, 9] and ends [5, 7, 12] become [0, 9] and [7, 12]."""
    gaps = starts[1:] != ends[:-1]
    always = np.ones(min(1, len(starts)), dtype=bool)
    return starts[np.append(always, gaps)], ends[np.append(gaps, always)]
