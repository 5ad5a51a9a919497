"""A corpus on disk: records in Parquet shards, a series of shards for each split.

`train-00000.parquet`, `train-00001.parquet`, …, then `validation-…` and `test-…`: sorted by split, then in the
order of the source. The bytes are a function of the records alone. Reading and writing stream by row group.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cclm_core.errors import ArtifactError

SPLITS = ("train", "validation", "test")
"""The splits, in the order in which they are stored and read."""

# A row group is what is held in memory: at most so many records and, however long those are, about so much text.
_GROUP_RECORDS = 4096
_GROUP_CHARACTERS = 4 << 20

_ENTITY = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("author", pa.string()),
        pa.field("group", pa.string()),
        pa.field("variant", pa.string()),
        pa.field("label", pa.string()),
        pa.field("entities", pa.list_(_ENTITY), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)


class Entity(NamedTuple):
    """A labelled span of a record's text: characters `start` to `end`, half open."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Record:
    """One text of a corpus and what is known of it.

    Args:
        id: unique in the corpus.
        text: never empty.
        author: who wrote or speaks it.
        group: what must not be torn apart by a split, e.g. the play; None where a record stands alone.
        variant: the edition or version, e.g. `modern` or `folio`.
        label: the class, for classification.
        entities: sorted, not overlapping, inside the text.
        split: `train`, `validation` or `test`.
    """

    id: str
    text: str
    author: str | None = None
    group: str | None = None
    variant: str | None = None
    label: str | None = None
    entities: tuple[Entity, ...] = ()
    split: str = "train"


def fault(record: Record) -> str | None:
    """Why `record` cannot stand in a corpus, or None when it can.

    >>> fault(Record(id="1", text="To be"))
    >>> fault(Record(id="1", text="To be", entities=(Entity(3, 9, "X"),)))
    'entity span out of range'
    """
    if not record.text.strip():
        return "empty text"
    if "\0" in record.text:
        return "NUL character"
    for value in (record.id, record.text, record.author, record.group, record.variant, record.label):
        if value is not None and not _encodable(value):
            return "lone surrogate"
    previous = 0
    for entity in record.entities:
        if not 0 <= entity.start < entity.end <= len(record.text):
            return "entity span out of range"
        if not entity.label or not _encodable(entity.label):
            return "entity without a label"
        if entity.start < previous:
            return "entity spans overlap or are not sorted"
        previous = entity.end
    return None


def write_shards(folder: Path, records: Iterable[Record], records_per_shard: int = 65536) -> dict[str, int]:
    """Writes `records`, which may come in any order of splits, into shards below `folder`.

    Returns:
        The number of records in each split, in the order of `SPLITS`; a split without records has no shard.
    """
    if records_per_shard < 1:
        raise ValueError(f"`records_per_shard` must be at least 1, got {records_per_shard}")
    with ExitStack() as stack:
        shards = {split: stack.enter_context(_Shards(folder, split, records_per_shard)) for split in SPLITS}
        for record in records:
            assert record.split in shards, f"split must be one of {SPLITS}, got {record.split!r}"
            shards[record.split].add(record)
    return {split: shards[split].num_records for split in SPLITS}


def read_records(folder: Path, split: str | None = None, variants: Collection[str] | None = None) -> Iterator[Record]:
    """Reads the records of a corpus, a row group at a time.

    Args:
        folder: a published corpus; call `artifacts.verify` first where it may have been altered.
        split: only this split; None for all, in the order of `SPLITS`.
        variants: only these variants; None for all.

    Raises:
        ArtifactError: `folder` holds no shard at all.
    """
    assert split is None or split in SPLITS, f"split must be one of {SPLITS}, got {split!r}"
    if not any(folder.glob("*.parquet")):
        raise ArtifactError(f"{folder} must hold a corpus, but there is no shard in it. Run the stage `ingest`.")
    for name in SPLITS if split is None else (split,):
        for path in sorted(folder.glob(f"{name}-*.parquet")):
            with pq.ParquetFile(path) as shard:
                for index in range(shard.num_row_groups):
                    yield from _rows(shard.read_row_group(index), variants)


class _Shards:
    """The shards of one split: a buffer of one row group, a file that is closed when it is full."""

    def __init__(self, folder: Path, split: str, records_per_shard: int) -> None:
        self.num_records = 0
        self._folder, self._split, self._records_per_shard = folder, split, records_per_shard
        self._rows: list[Record] = []
        self._characters = 0
        self._num_shards = 0
        self._in_shard = 0
        self._writer: Any = None

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self._write_group()
        self._close()

    def add(self, record: Record) -> None:
        self._rows.append(record)
        self._characters += len(record.text)
        self.num_records += 1
        self._in_shard += 1
        full = self._in_shard == self._records_per_shard
        if full or len(self._rows) == _GROUP_RECORDS or self._characters >= _GROUP_CHARACTERS:
            self._write_group()
        if full:
            self._close()

    def _write_group(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            path = self._folder / f"{self._split}-{self._num_shards:05d}.parquet"
            self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", compression_level=3, version="2.6")
            self._num_shards += 1
        table = pa.Table.from_pydict({name: [_cell(row, name) for row in self._rows] for name in SCHEMA.names}, SCHEMA)
        self._writer.write_table(table, row_group_size=len(self._rows))
        self._rows, self._characters = [], 0

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._in_shard = None, 0


def _cell(record: Record, name: str) -> Any:
    if name == "entities":
        return [entity._asdict() for entity in record.entities]
    return getattr(record, name)


def _rows(table: Any, variants: Collection[str] | None) -> Iterator[Record]:
    for row in table.to_pylist():
        if variants is None or row["variant"] in variants:
            entities = tuple(Entity(**entity) for entity in row.pop("entities"))
            yield Record(**row, entities=entities)


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text) if not text.isascii() else True
