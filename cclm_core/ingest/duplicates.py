"""Finds exact and near duplicates; the first record in the order of the source is kept.

The index of earlier records is a temporary SQLite database, so memory stays constant. On disk, a record takes about:

- 20 bytes for its location
- 25 bytes for each key: one for its id, one for its text (`exact`), one per band (`near`: 14 at the threshold 0.8)
- 450 bytes for its signature (`near`)

Near duplicates are found by MinHash over character n-grams and locality-sensitive hashing. Texts that share a band are
compared by their signatures: the share of equal values estimates the Jaccard similarity of their sets of n-grams. A
record is removed if it is near any earlier record, even one that was removed. So no two kept records that share a band
are near each other.

Source: Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cclm_core.ingest.minhash import NUM_HASHES, band_keys
from cclm_core.runtime.config import Config

Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

_KEY_BYTES = 16
_CACHE_KIB = 32 << 10  # page cache of the database


class DuplicatesConfig(Config):
    """Defines which records are duplicates.

    Args:
        kind: `exact` for equal texts; `near` for texts whose n-grams overlap, equal texts included.
        threshold: for `near`, the minimum Jaccard similarity of the sets of n-grams, from 0.5 to below 1.
        ngram: for `near`, the number of characters in an n-gram, 2 to 32.
        min_characters: shorter texts are never removed, because short lines of dialogue repeat legitimately.
    """

    kind: Literal["exact", "near"]
    threshold: float = Field(default=0.8, ge=0.5, lt=1)
    ngram: int = Field(default=5, ge=2, le=32)
    min_characters: int = Field(default=1, ge=1)


class FirstSeen:
    """Maps each key to the number it was first added with, in a table of a database.

    >>> seen = FirstSeen(sqlite3.connect(":memory:"), "ids")
    >>> seen.add(np.array([[1, 2], [3, 4], [1, 2]], dtype=np.uint64), np.array([10, 11, 12])).tolist()
    [10, 11, 10]
    """

    def __init__(self, database: sqlite3.Connection, table: str) -> None:
        """Creates `table`, and the table `batch` if it is missing."""
        self._database, self._table = database, table
        database.execute(f"CREATE TABLE {table} (key BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        database.execute("CREATE TABLE IF NOT EXISTS batch (number INTEGER, key BLOB)")

    def add(self, keys: Keys, numbers: Numbers) -> Numbers:
        """Adds keys and returns the number each was first added with.

        Args:
            keys: (N, 2) uint64, 128 bits each.
            numbers: (N,) int64, non-decreasing within and across calls.

        Returns:
            (N,) int64.
        """
        data = np.ascontiguousarray(keys).tobytes()
        blobs = (data[start : start + _KEY_BYTES] for start in range(0, len(data), _KEY_BYTES))
        self._database.executemany("INSERT INTO batch VALUES (?, ?)", zip(numbers.tolist(), blobs, strict=True))
        # Sorted by key, so that adjacent pages of the table are written together.
        self._database.execute(
            f"INSERT OR IGNORE INTO {self._table} SELECT key, min(number) FROM batch GROUP BY key ORDER BY key"
        )
        rows = self._database.execute(
            f"SELECT t.number FROM batch CROSS JOIN {self._table} t USING (key) ORDER BY batch.rowid"
        )
        first = np.fromiter((number for (number,) in rows), dtype=np.int64, count=len(keys))
        self._database.execute("DELETE FROM batch")
        return first


class Duplicates:
    """Finds duplicates in a corpus that is passed in batches, in the order of the source."""

    def __init__(self, folder: Path, config: DuplicatesConfig | None) -> None:
        """Creates a database in `folder`, which must exist. The caller deletes it after `close`."""
        self.config = config
        self._database = sqlite3.connect(folder / "seen.sqlite")
        # The database is scratch data: it need not survive a crash.
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._database.execute(f"PRAGMA {setting}")
        self._ids, self._texts = FirstSeen(self._database, "ids"), FirstSeen(self._database, "texts")
        self._groups, self._bands = FirstSeen(self._database, "groups"), FirstSeen(self._database, "bands")
        self._database.execute("CREATE TABLE locations (number INTEGER PRIMARY KEY, file INTEGER, line INTEGER)")
        self._database.execute("CREATE TABLE signatures (number INTEGER PRIMARY KEY, signature BLOB)")
        self._files: dict[str, int] = {}
        self._num_records = self._num_groups = 0

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def number(self, files: Sequence[str], lines: Numbers) -> Numbers:
        """Assigns the next consecutive numbers to the records of a batch.

        Args:
            files: N names of the files that the records come from.
            lines: (N,) int64, their lines.

        Returns:
            (N,) int64.
        """
        numbers = np.arange(self._num_records, self._num_records + len(files))
        self._num_records += len(files)
        file_ids = [self._files.setdefault(file, len(self._files)) for file in files]
        rows = zip(numbers.tolist(), file_ids, lines.tolist(), strict=True)
        self._database.executemany("INSERT INTO locations VALUES (?, ?, ?)", rows)
        return numbers

    def location(self, number: int) -> str:
        """Returns the location of a record in the source, as `file:line`."""
        file, line = self._database.execute("SELECT file, line FROM locations WHERE number = ?", (number,)).fetchone()
        return f"{list(self._files)[file]}:{line}"

    def new_groups(self, keys: Keys) -> int:
        """Counts the group keys (N, 2) that were not passed before."""
        numbers = np.arange(self._num_groups, self._num_groups + len(keys))
        self._num_groups += len(keys)
        return int((self._groups.add(keys, numbers) == numbers).sum())

    def same_id(self, keys: Keys, numbers: Numbers) -> Numbers:
        """Returns, for id keys (N, 2), the numbers (N,) of the first records with the same ids."""
        return self._ids.add(keys, numbers)

    def same_text(self, keys: Keys, numbers: Numbers) -> Numbers:
        """Returns, for text keys (N, 2), the numbers (N,) of the first records with the same texts."""
        return self._texts.add(keys, numbers)

    def near_text(
        self, signatures: npt.NDArray[np.uint32], numbers: Numbers, compared: npt.NDArray[np.bool_]
    ) -> Numbers:
        """Returns, for each record, the number of the first near earlier record, or its own number.

        Args:
            signatures: (N, 112) uint32, of all records of the batch. Pass every batch, in order.
            numbers: (N,) int64, the numbers of these records.
            compared: (N,) bool, which records to compare.

        Returns:
            (N,) int64.
        """
        assert self.config is not None
        rows = zip(numbers.tolist(), map(np.ndarray.tobytes, signatures), strict=True)
        self._database.executemany("INSERT INTO signatures VALUES (?, ?)", rows)
        # A key includes the index of its band, so two bands of one record never share a key.
        keys = band_keys(signatures[compared], self.config.threshold)
        own = np.repeat(numbers[compared], keys.shape[1])
        first = self._bands.add(keys.reshape(-1, 2), own)
        pairs = np.unique(np.stack([own, first], axis=1)[own != first], axis=0)
        later, earlier = signatures[pairs[:, 0] - numbers[:1]], self._signatures(pairs[:, 1])
        pairs = pairs[(later == earlier).mean(axis=1) >= self.config.threshold]
        # The pairs are sorted, so `return_index` selects the earliest near record.
        records, indices = np.unique(pairs[:, 0], return_index=True)
        nearest = numbers.copy()
        nearest[records - numbers[:1]] = pairs[indices, 1]
        return nearest

    def _signatures(self, numbers: Numbers) -> npt.NDArray[np.uint32]:
        query = "SELECT signature FROM signatures WHERE number = ?"
        blobs = [self._database.execute(query, (number,)).fetchone()[0] for number in numbers.tolist()]
        return np.frombuffer(b"".join(blobs), dtype=np.uint32).reshape(-1, NUM_HASHES)
