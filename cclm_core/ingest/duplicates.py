"""Exact and near duplicates: of records that repeat each other the first in the order of the source is kept.

What is remembered of a record stands in temporary files, not in memory: 16 bytes for its place, 48 to 192 bytes for
each of its keys (in a table of 24 bytes a slot that is an eighth to a half full): one key for an id, one for a text
that is compared exactly, one for each band of near duplicates (14 at the threshold 0.8), and there 448 bytes for its
signature.

Near duplicates are found by MinHash over character n-grams and locality-sensitive hashing: texts that share one of
their bands are compared by their signatures, whose equal share estimates how much their sets of n-grams overlap. A
record is removed when it is near any record that came before, whether or not that one was removed itself; so no two
records that are kept are near each other, as far as bands find them.

Source: Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3.
"""

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cclm_core.ingest.minhash import NUM_HASHES, band_keys
from cclm_core.runtime.config import Config

Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

_CAPACITY = 1 << 16  # slots of a new table
_MOVED = 1 << 18  # slots that are moved at once when a table grows
_GOLDEN, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_REGION = 1 << 20  # slots that stand in memory at once: 24 MiB


class DuplicatesConfig(Config):
    """Which records count as repetitions.

    Args:
        kind: `exact` for equal texts; `near` for texts whose n-grams overlap, equal ones included.
        threshold: of `near`: from which share of common n-grams on (Jaccard similarity).
        ngram: of `near`: characters of an n-gram.
        min_characters: shorter texts are never removed: in a dialogue or a play a short line repeats rightly.
    """

    kind: Literal["exact", "near"]
    threshold: float = Field(default=0.8, ge=0.5, lt=1)
    ngram: int = Field(default=5, ge=2, le=32)
    min_characters: int = Field(default=1, ge=1)


class FirstSeen:
    """Remembers under which number each key came first: an open hash table in a file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     seen = FirstSeen(Path(folder) / "table")
    ...     seen.add(np.array([[1, 2], [3, 4], [1, 2]], dtype=np.uint64), np.array([10, 11, 12])).tolist()
    [10, 11, 10]
    """

    def __init__(self, path: Path) -> None:
        self._path, self._count = path, 0
        self._table = _opened(path, _CAPACITY)

    def add(self, keys: Keys, numbers: Numbers) -> Numbers:
        """For keys (N, 2) of 128 bits, with rising numbers (N,), the number (N,) under which each came first."""
        if not len(keys):
            return numbers
        keys = np.stack([keys[:, 0] | np.uint64(1), keys[:, 1]], axis=1)  # 0 marks an empty slot
        order = np.lexsort((numbers, keys[:, 1], keys[:, 0]))
        ordered = keys[order]
        begins = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
        while 2 * (self._count + int(begins.sum())) > len(self._table):
            self._grow()
        group = np.cumsum(begins) - 1
        first = self._place(ordered[begins], numbers[order][begins])
        found = np.empty_like(numbers)
        found[order] = first[group]
        return found

    def _place(self, keys: Keys, numbers: Numbers) -> Numbers:
        """Distinct keys: the numbers that they have in the table; those that are new are put there.

        Region by region, so that no more than one region of the file stands in memory, whatever the system maps around
        a place that is looked at.
        """
        mixed = keys[:, 0] * _MIX
        mixed = ((mixed ^ (mixed >> np.uint64(32))) + keys[:, 1]) * _GOLDEN  # its upper bits depend on all of a key
        slots = mixed >> np.uint64(65 - len(self._table).bit_length())
        regions = slots // np.uint64(_REGION)
        order = np.argsort(regions, kind="stable")
        bounds = np.searchsorted(regions[order], np.arange(len(self._table) // _REGION + 2, dtype=np.uint64))
        first = numbers.copy()
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if begin < end:
                some = order[begin:end]
                first[some] = self._probe(keys[some], numbers[some], slots[some])
                _let_go(self._table)
        return first

    def _probe(self, keys: Keys, numbers: Numbers, slots: npt.NDArray[np.uint64]) -> Numbers:
        mask = np.uint64(len(self._table) - 1)
        first = numbers.copy()
        left = np.arange(len(keys))
        while len(left):
            held = self._table[slots[left]]
            empty = left[held[:, 0] == 0]
            # Of several keys at one empty slot the last written takes it; the others see that and go on.
            self._table[slots[empty], 2] = numbers[empty].astype(np.uint64)
            taken = empty[self._table[slots[empty], 2] == numbers[empty].astype(np.uint64)]
            self._table[slots[taken], :2] = keys[taken]
            self._count += len(taken)
            same = (held[:, :2] == keys[left]).all(axis=1)
            first[left[same]] = held[same, 2].astype(np.int64)
            is_done = same.copy()
            is_done[np.searchsorted(left, taken)] = True
            occupied = left[(held[:, 0] != 0) & ~same]
            slots[occupied] = (slots[occupied] + np.uint64(1)) & mask
            left = left[~is_done]
        return first

    def _grow(self) -> None:
        old, self._count = self._table, 0
        other = self._path.with_name(self._path.name + ".grown")
        self._table = _opened(other, 4 * len(old))
        for begin in range(0, len(old), _MOVED):
            part = np.array(old[begin : begin + _MOVED])
            part = part[part[:, 0] != 0]
            self._place(part[:, :2], part[:, 2].astype(np.int64))
            _let_go(old)
        other.replace(self._path)


class Growing:
    """An array in a file that grows at its end: rows of `width` values of one type."""

    def __init__(self, path: Path, kind: str, width: int) -> None:
        self._path, self._kind, self._width = path, np.dtype(kind), width
        self._stream = path.open("wb")
        self.num_rows = 0

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Adds rows (N, width)."""
        self._stream.write(np.ascontiguousarray(rows, dtype=self._kind).tobytes())
        self.num_rows += len(rows)

    def read(self, numbers: Numbers) -> npt.NDArray[Any]:
        """The rows with these numbers, (N, width)."""
        self._stream.flush()
        if not self.num_rows:
            return np.empty((0, self._width), dtype=self._kind)
        held = np.memmap(self._path, dtype=self._kind, mode="r", shape=(self.num_rows, self._width))
        return np.array(held[numbers])

    def close(self) -> None:
        self._stream.close()


class Duplicates:
    """Finds repetitions among the records of a corpus, which come in portions, in the order of the source."""

    def __init__(self, folder: Path, config: DuplicatesConfig | None) -> None:
        """Keeps its files in `folder`, which must exist and is the caller's to remove."""
        self.config = config
        self._ids, self._texts = FirstSeen(folder / "ids"), FirstSeen(folder / "texts")
        self._groups = FirstSeen(folder / "groups")
        self._bands = FirstSeen(folder / "bands")
        self._signatures = Growing(folder / "signatures", "<u4", NUM_HASHES)
        self._places = Growing(folder / "places", "<i8", 2)
        self._files: dict[str, int] = {}
        self._num_groups = 0

    def close(self) -> None:
        """Closes the files."""
        self._signatures.close()
        self._places.close()

    def number(self, files: Sequence[str], lines: Numbers) -> Numbers:
        """New numbers (N,) for the records of a portion, which stand in `files` at `lines`."""
        known = [self._files.setdefault(file, len(self._files)) for file in files]
        first = self._places.num_rows
        self._places.append(np.stack([np.array(known, dtype=np.int64), lines], axis=1))
        return np.arange(first, first + len(files))

    def place(self, number: int) -> str:
        """Where a record stands, as `file:line`."""
        file, line = self._places.read(np.array([number]))[0].tolist()
        return f"{list(self._files)[file]}:{line}"

    def new_groups(self, keys: Keys) -> int:
        """How many of the keys (N, 2) of groups came for the first time."""
        numbers = np.arange(self._num_groups, self._num_groups + len(keys))
        self._num_groups += len(keys)
        return int((self._groups.add(keys, numbers) == numbers).sum())

    def same_id(self, keys: Keys, numbers: Numbers) -> Numbers:
        """For each record, by the keys (N, 2) of their ids, the number of the first one with its id."""
        return self._ids.add(keys, numbers)

    def same_text(self, keys: Keys, numbers: Numbers) -> Numbers:
        """For each record, by the keys (N, 2) of their texts, the number of the first one with its text."""
        return self._texts.add(keys, numbers)

    def near_text(
        self, signatures: npt.NDArray[np.uint32], numbers: Numbers, compared: npt.NDArray[np.bool_]
    ) -> Numbers:
        """For each record the number of an earlier one that it is near, its own where there is none.

        Args:
            signatures: (N, 112) of all records of the portion.
            numbers: (N,) theirs; each portion must come here, in order.
            compared: (N,) which of them take part.
        """
        assert self.config is not None
        self._signatures.append(signatures)
        # The number of a band is part of its key, so two bands of one record never share a key.
        keys = band_keys(signatures[compared], self.config.threshold)
        own = np.repeat(numbers[compared], keys.shape[1])
        first = self._bands.add(keys.reshape(-1, 2), own)
        pairs = np.unique(np.stack([own, first], axis=1)[own != first], axis=0)
        mine, theirs = signatures[pairs[:, 0] - numbers[:1]], self._signatures.read(pairs[:, 1])
        pairs = pairs[(mine == theirs).mean(axis=1) >= self.config.threshold]
        # The pairs are sorted: of several that are near, the first record counts.
        records, which = np.unique(pairs[:, 0], return_index=True)
        nearest = numbers.copy()
        nearest[records - numbers[:1]] = pairs[which, 1]
        return nearest


def _opened(path: Path, capacity: int) -> npt.NDArray[np.uint64]:
    return np.memmap(path, dtype=np.uint64, mode="w+", shape=(capacity, 3))


def _let_go(table: npt.NDArray[np.uint64]) -> None:
    """Takes the pages of a mapped file out of this process's memory; what was written stays in the file."""
    mapped = getattr(table, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
