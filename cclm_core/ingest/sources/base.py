"""The interface of a source: a configuration class that reads its records in parts."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.runtime.config import Config

Items = Iterator[Located | Rejected]
"""Records and unusable input, in the order of the source. The split of every record is still `train`."""

BATCH_RECORDS = 1024
"""Maximum number of records, or rows of a table, in a part."""

BATCH_BYTES = 4 << 20
"""Approximate maximum size of a part; long texts make a part of fewer records."""


class SourceConfig(Config):
    """The source of a corpus.

    A subclass adds a field `kind`, a literal of its name, and is listed in `ingest.config.Source`.
    """

    @property
    def ids_may_repeat(self) -> bool:
        """Whether ids come from the data, so that two records can have the same id."""
        return False

    @property
    def reads_in_workers(self) -> bool:
        """Whether `read_part` reads some of the parts, so that several processes can share the reading."""
        return False

    @abstractmethod
    def parts(self, downloads: Path) -> Iterator[Any]:
        """Yields the parts of the source in order. The boundaries of the parts depend on the source alone.

        A part is a list of `Located` and `Rejected`, or a picklable description that `read_part` reads.

        Args:
            downloads: folder for files to keep between runs.

        Raises:
            DataError: the source cannot be read.
        """

    def read_part(self, part: Any) -> Iterable[Located | Rejected]:
        """Yields the records of a part in order; runs in any process."""
        return part  # type: ignore[no-any-return]

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Returns the content of `source.json`: names, versions, digests, license; no paths outside the project."""

    def read(self, downloads: Path) -> Items:
        """Yields all records of the source in order.

        Raises:
            DataError: the source cannot be read.
        """
        for part in self.parts(downloads):
            yield from self.read_part(part)


def batched(items: Iterable[Located | Rejected]) -> Iterator[list[Located | Rejected]]:
    """Groups items into lists of `BATCH_RECORDS`, or fewer if their texts are long."""
    batch: list[Located | Rejected] = []
    characters = 0
    for item in items:
        batch.append(item)
        characters += len(item.record.text) if isinstance(item, Located) else len(item.excerpt)
        if len(batch) == BATCH_RECORDS or characters >= BATCH_BYTES:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
