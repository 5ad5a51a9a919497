"""Exact and near duplicates: of records that repeat each other, the first in the order of the source is kept.

What must be remembered of each record is kept in a temporary SQLite database, not in memory: about 20 bytes for its
location, 25 bytes for each key (one for an id, one for a text that is compared exactly, one per band of near
duplicates: 14 at the threshold 0.8), and 450 bytes for the signature of a text that is compared nearly.

Near duplicates are found by MinHash over character n-grams and locality-sensitive hashing: texts that share a band are
compared by their signatures, whose share of equal values estimates how much their sets of n-grams overlap. A record is
removed if it is near any earlier record, whether or not that one was removed itself. So no two records that are kept
are near each other, as far as the bands can tell.

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
_CACHE_KIB = 32 << 10  # of the database, in memory


class DuplicatesConfig(Config):
    """Which records count as duplicates.

    Args:
        kind: `exact` for equal texts; `near` for texts whose n-grams overlap, equal texts included.
        threshold: for `near`, the least share of common n-grams (Jaccard similarity), 0.5 to below 1.
        ngram: for `near`, the number of characters in an n-gram, 2 to 32.
        min_characters: shorter texts are never removed: a short line in a dialogue or a play may well repeat.
    """

    kind: Literal["exact", "near"]
    threshold: float = Field(default=0.8, ge=0.5, lt=1)
    ngram: int = Field(default=5, ge=2, le=32)
    min_characters: int = Field(default=1, ge=1)


class FirstSeen:
    """Remembers the number under which each key came first, in a table of a database.

    >>> seen = FirstSeen(sqlite3.connect(":memory:"), "ids")
    >>> seen.add(np.array([[1, 2], [3, 4], [1, 2]], dtype=np.uint64), np.array([10, 11, 12])).tolist()
    [10, 11, 10]
    """

    def __init__(self, database: sqlite3.Connection, table: str) -> None:
        """Creates `table`, and the table `batch` if it does not exist."""
        self._database, self._table = database, table
        database.execute(f"CREATE TABLE {table} (key BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        database.execute("CREATE TABLE IF NOT EXISTS batch (number INTEGER, key BLOB)")

    def add(self, keys: Keys, numbers: Numbers) -> Numbers:
        """Adds keys and returns the numbers under which they came first.

        Args:
            keys: (N, 2) uint64, 128 bits each.
            numbers: (N,) int64, not decreasing, and none below those of earlier calls.

        Returns:
            (N,) int64.
        """
        data = np.ascontiguousarray(keys).tobytes()
        blobs = (data[at : at + _KEY_BYTES] for at in range(0, len(data), _KEY_BYTES))
        self._database.executemany("INSERT INTO batch VALUES (?, ?)", zip(numbers.tolist(), blobs, strict=True))
        # Sorted by key, so that neighboring pages of the table are written together.
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
    """Finds duplicates among the records of a corpus, which come in batches, in the order of the source."""

    def __init__(self, folder: Path, config: DuplicatesConfig | None) -> None:
        """Creates its database in `folder`, which must exist; the caller removes it after `close`."""
        self.config = config
        self._database = sqlite3.connect(folder / "seen.sqlite")
        # Scratch data: nothing is committed, and nothing has to survive a crash.
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
        """Numbers the records of a batch.

        Args:
            files: (N,) where they were read.
            lines: (N,) int64.

        Returns:
            (N,) int64, consecutive.
        """
        numbers = np.arange(self._num_records, self._num_records + len(files))
        self._num_records += len(files)
        known = [self._files.setdefault(file, len(self._files)) for file in files]
        rows = zip(numbers.tolist(), known, lines.tolist(), strict=True)
        self._database.executemany("INSERT INTO locations VALUES (?, ?, ?)", rows)
        return numbers

    def location(self, number: int) -> str:
        """Where the record with this number was read, as `file:line`."""
        file, line = self._database.execute("SELECT file, line FROM locations WHERE number = ?", (number,)).fetchone()
        return f"{list(self._files)[file]}:{line}"

    def new_groups(self, keys: Keys) -> int:
        """How many of the keys (N, 2) of groups came for the first time."""
        numbers = np.arange(self._num_groups, self._num_groups + len(keys))
        self._num_groups += len(keys)
        return int((self._groups.add(keys, numbers) == numbers).sum())

    def same_id(self, keys: Keys, numbers: Numbers) -> Numbers:
        """For each record, by the keys (N, 2) of the ids, the number (N,) of the first record with its id."""
        return self._ids.add(keys, numbers)

    def same_text(self, keys: Keys, numbers: Numbers) -> Numbers:
        """For each record, by the keys (N, 2) of the texts, the number (N,) of the first record with its text."""
        return self._texts.add(keys, numbers)

    def near_text(
        self, signatures: npt.NDArray[np.uint32], numbers: Numbers, compared: npt.NDArray[np.bool_]
    ) -> Numbers:
        """For each record the number of an earlier record that it is near, or its own number.

        Args:
            signatures: (N, 112) uint32, of all records of the batch.
            numbers: (N,) theirs; every batch must be given, in order.
            compared: (N,) which of them take part.
        """
        assert self.config is not None
        rows = zip(numbers.tolist(), map(np.ndarray.tobytes, signatures), strict=True)
        self._database.executemany("INSERT INTO signatures VALUES (?, ?)", rows)
        # The number of a band is part of its key, so two bands of one record never share a key.
        keys = band_keys(signatures[compared], self.config.threshold)
        own = np.repeat(numbers[compared], keys.shape[1])
        first = self._bands.add(keys.reshape(-1, 2), own)
        pairs = np.unique(np.stack([own, first], axis=1)[own != first], axis=0)
        mine, theirs = signatures[pairs[:, 0] - numbers[:1]], self._signatures(pairs[:, 1])
        pairs = pairs[(mine == theirs).mean(axis=1) >= self.config.threshold]
        # The pairs are sorted: of several near records, the first counts.
        records, which = np.unique(pairs[:, 0], return_index=True)
        nearest = numbers.copy()
        nearest[records - numbers[:1]] = pairs[which, 1]
        return nearest

    def _signatures(self, numbers: Numbers) -> npt.NDArray[np.uint32]:
        query = "SELECT signature FROM signatures WHERE number = ?"
        blobs = [self._database.execute(query, (number,)).fetchone()[0] for number in numbers.tolist()]
        return np.frombuffer(b"".join(blobs), dtype=np.uint32).reshape(-1, NUM_HASHES)
