"""The contract of a source: a configuration class that reads its records in parts."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.runtime.config import Config

Items = Iterator[Located | Rejected]
"""Records in the order of the source, all of them in the split `train`, and input that cannot be used."""

BATCH_RECORDS = 1024
"""Records, or rows of a table, that are handed on together."""

BATCH_BYTES = 4 << 20
"""About the size of a part: fewer long texts, or the lines of a file up to this many bytes."""


class SourceConfig(Config):
    """The source of a corpus. A subclass adds a field `kind` with a literal value and is listed in `config.Source`."""

    @property
    def ids_may_repeat(self) -> bool:
        """Whether ids come from the data, so that two records may have the same id."""
        return False

    @property
    def reads_in_workers(self) -> bool:
        """Whether some parts are read by `read_part`, so that several processes can share the reading."""
        return False

    @abstractmethod
    def parts(self, downloads: Path) -> Iterator[Any]:
        """The source in parts, in order. Where a part ends depends on the source alone.

        A part is a list of `Located` and `Rejected`, or what `read_part` of the same class reads; it can be pickled.

        Args:
            downloads: a folder for files that are kept between runs.

        Raises:
            DataError: the source cannot be read.
        """

    def read_part(self, part: Any) -> Iterable[Located | Rejected]:
        """The records of a part, in order, in any process."""
        return part  # type: ignore[no-any-return]

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What was read, for `source.json`: names, versions, digests and license; no paths outside the project."""

    def read(self, downloads: Path) -> Items:
        """All records of the source, in order.

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
