"""Arrays of one shape on disk, by key: computed once, appended, memory-mapped, bounded.

```
rows.bin    one array per key, in the order in which they were added
index.bin   20 bytes per key: BLAKE2b of the key (16), CRC-32 of its array (4)
```
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cclm_core.runtime.errors import ArtifactError

_RECORD = struct.Struct("<16sI")

Row = npt.NDArray[np.floating]


class RowStore:
    """Arrays of one shape and type, by key.

    The index is written last and at once, so a kill leaves all arrays of a call of `add` or none. Arrays after the
    first damaged one are dropped when the store is opened. One process can write at a time.

    Args:
        folder: an existing folder, or a new one.
        shape: of each array.
        dtype: float16 or float32.
        max_bytes: limit of the disk space.

    Raises:
        ArtifactError: the folder cannot be written.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: npt.DTypeLike, max_bytes: float) -> None:
        self.folder, self.shape, self.dtype = folder, shape, np.dtype(dtype)
        self._size = int(np.prod(shape)) * self.dtype.itemsize
        self.capacity = int(max_bytes) // (self._size + _RECORD.size)
        self._rows: dict[bytes, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._data, self._index = _opened(folder / "rows.bin"), _opened(folder / "index.bin")
            self.refresh()
            self._data.truncate(len(self._rows) * self._size)
            self._index.truncate(len(self._rows) * _RECORD.size)
        except OSError as error:
            raise ArtifactError(f"cannot write to {folder}: {error}. Correct it, or use another folder.") from error
        self._mapped = self._map()

    def __len__(self) -> int:
        """The number of arrays."""
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        """Whether there is an array of this key."""
        return _hash(key) in self._rows

    def get(self, key: bytes) -> Row | None:
        """The array of a key, read-only; None for an unknown key."""
        row = self._rows.get(_hash(key))
        if row is None:
            return None
        if row >= len(self._mapped):
            self._mapped = self._map()
        stored: Row = self._mapped[row]
        return stored

    def refresh(self) -> None:
        """Reads what another process has added."""
        first, index = len(self._rows) * _RECORD.size, self._index.fileno()
        content = os.pread(index, max(0, os.fstat(index).st_size - first), first)
        for key, checksum in _RECORD.iter_unpack(content[: len(content) - len(content) % _RECORD.size]):
            row = os.pread(self._data.fileno(), self._size, len(self._rows) * self._size)
            if len(self._rows) == self.capacity or zlib.crc32(row) != checksum or key in self._rows:
                break
            self._rows[key] = len(self._rows)

    def add(self, keys: Sequence[bytes], rows: Row) -> None:
        """Adds arrays (N, *shape) of new, distinct keys, as long as there is room.

        Raises:
            ArtifactError: the disk is full.
        """
        assert rows.shape == (len(keys), *self.shape) and rows.dtype == self.dtype
        first, room = len(self._rows), self.capacity - len(self._rows)
        contents = [row.tobytes() for row in rows[:room]]
        hashes = [_hash(key) for key in keys[:room]]
        records = [_RECORD.pack(key, zlib.crc32(row)) for key, row in zip(hashes, contents, strict=True)]
        try:
            _write(self._data, b"".join(contents), first * self._size)
            _write(self._index, b"".join(records), first * _RECORD.size)
        except OSError as error:
            raise ArtifactError(f"cannot write to {self.folder}: {error}. Free disk space.") from error
        self._rows |= {key: first + number for number, key in enumerate(hashes)}

    def close(self) -> None:
        """Closes the files."""
        self._data.close()
        self._index.close()

    def _map(self) -> Row:
        """All arrays (N, *shape), memory-mapped."""
        shape = (len(self._rows), *self.shape)
        if not self._rows:
            return np.empty(shape, dtype=self.dtype)
        return np.memmap(self.folder / "rows.bin", dtype=self.dtype, mode="r", shape=shape)


def _hash(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()


def _opened(path: Path) -> BinaryIO:
    path.touch()
    return path.open("r+b")


def _write(file: BinaryIO, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written
