"""A corpus on disk: records in Parquet shards, one series of shards per split.

The files are `train-00000.parquet`, `train-00001.parquet`, …, `validation-…` and `test-…`. Records are sorted by split,
then in the order of the source. Equal records give equal bytes. Reading and writing stream by row group.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.files import StrPath, as_path
from cclm_core.runtime.parquet import count_row_groups, read_row_group

SPLITS = ("train", "validation", "test")
"""The splits, in the order of storing and reading."""

# Limits of a row group, the unit kept in memory. The limit of characters is approximate.
_GROUP_RECORDS = 4096
_GROUP_CHARACTERS = 4 << 20
# Columns with repeated values are dictionary-encoded; ids and texts rarely repeat.
_DICTIONARIES = ["author", "group", "variant", "label", "split"]

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
    """A labeled span of a record's text: characters `start` to `end`, end excluded."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Record:
    """One text of a corpus with its metadata.

    Args:
        id: unique in the corpus.
        text: not empty.
        author: the writer or speaker.
        group: records of a group stay in one split, such as the speeches of a play; None for no group.
        variant: the edition or version, such as `modern` or `folio`.
        label: the target of classification.
        entities: sorted, without overlaps, inside the text.
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
    """The reason why `record` cannot be in a corpus; None if it can.

    >>> fault(Record(id="1", text="To be"))
    >>> fault(Record(id="1", text="To be", entities=(Entity(3, 9, "X"),)))
    'entity span out of range'
    """
    if not record.text or record.text.isspace():
        return "empty text"
    if "\0" in record.text:
        return "NUL character"
    for value in (record.id, record.text, record.author, record.group, record.variant, record.label):
        if value is not None and not encodable(value):
            return "lone surrogate"
    return entities_fault(record.text, record.entities)


def entities_fault(text: str, entities: Iterable[Entity]) -> str | None:
    """The reason why `entities` cannot be those of `text`; None if they can."""
    previous = 0
    for entity in entities:
        if not 0 <= entity.start < entity.end <= len(text):
            return "entity span out of range"
        if not entity.label.strip() or not encodable(entity.label):
            return "entity without a label"
        if entity.start < previous:
            return "entity spans overlap or are not sorted"
        previous = entity.end
    return None


def to_table(records: Sequence[Record]) -> pa.Table:
    """Converts records to a table with the columns of `SCHEMA`."""
    return pa.Table.from_pydict({name: [_cell(row, name) for row in records] for name in SCHEMA.names}, SCHEMA)


def write_shards(folder: StrPath, records: Iterable[Record], records_per_shard: int = 65536) -> dict[str, int]:
    """Writes `records` into shards in `folder`; the splits can come in any order. An empty split has no shard.

    Returns:
        Split → number of records, in the order of `SPLITS`.
    """
    buffers: dict[str, list[Record]] = {split: [] for split in SPLITS}
    characters = dict.fromkeys(SPLITS, 0)
    with ShardWriter(folder, records_per_shard) as writer:
        for record in records:
            assert record.split in buffers, f"split must be one of {SPLITS}, got {record.split!r}"
            buffer = buffers[record.split]
            buffer.append(record)
            characters[record.split] += len(record.text)
            if len(buffer) == _GROUP_RECORDS or characters[record.split] >= _GROUP_CHARACTERS:
                writer.add(record.split, to_table(buffer))
                buffers[record.split], characters[record.split] = [], 0
        for split, buffer in buffers.items():
            writer.add(split, to_table(buffer))
    return writer.num_records


class ShardWriter:
    """Writes tables of records into shards, as a context manager. Keeps one row group per split in memory.

    Raises:
        ConfigError: `records_per_shard` is below 1.
    """

    def __init__(self, folder: StrPath, records_per_shard: int) -> None:
        if records_per_shard < 1:
            raise ConfigError(f"`records_per_shard` must be at least 1, got {records_per_shard}.")
        folder = as_path(folder, "folder")
        self._shards = {split: _Shards(folder, split, records_per_shard) for split in SPLITS}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for shards in self._shards.values():
            shards.close(complete=kind is None)

    @property
    def num_records(self) -> dict[str, int]:
        """Split → number of records written, in the order of `SPLITS`."""
        return {split: shards.num_records for split, shards in self._shards.items()}

    def add(self, split: str, table: pa.Table) -> None:
        """Appends a table of records, all of this split."""
        self._shards[split].add(table)


def read_records(
    folder: StrPath, split: str | None = None, variants: Collection[str] | None = None
) -> Iterator[Record]:
    """Reads the records of a corpus, one row group at a time.

    Args:
        folder: a published corpus. Call `artifacts.verify` first if it may have been altered.
        split: only this split; None for all, in the order of `SPLITS`.
        variants: only these variants; None for all.

    Raises:
        ArtifactError: `folder` has no shard.
    """
    for group in row_groups(folder, split):
        yield from _rows(group, variants)


def read_texts(folder: StrPath, split: str) -> Iterator[str]:
    """Yields the texts of one split, in order. Reads no other column.

    Raises:
        ArtifactError: `folder` has no shard.
    """
    for group in row_groups(folder, split):
        yield from read_group(group, ["text"]).column("text").to_pylist()


def corpus_texts(folder: StrPath, split: str = "train", variants: Collection[str] | None = None) -> Iterator[str]:
    """Checks the digests of a published corpus and streams the texts of one split.

    `Preprocessor().fit(corpus_texts(Path("data/corpus")))` finds the same alphabet as the stage `vocab`.

    Args:
        folder: the output of the stage `ingest`.
        split: `train`, `validation` or `test`.
        variants: only the records of these variants; None for all.

    Raises:
        ArtifactError: `folder` is not a corpus.
        IntegrityError: `folder` was altered.
    """
    verify(folder, "corpus")
    return (record.text for record in read_records(folder, split, variants))


def entity_labels(folder: StrPath) -> set[str]:
    """The labels of all entities of a corpus.

    Raises:
        ArtifactError: `folder` has no shard.
    """
    labels: set[str] = set()
    for group in row_groups(folder):
        entities = read_group(group, ["entities"]).column("entities")
        labels.update(pc.unique(pc.struct_field(pc.list_flatten(entities), "label")).to_pylist())
    return labels


class RowGroup(NamedTuple):
    """Row group `number` of the shard `path` of `split`; the unit of reading."""

    path: Path
    number: int
    split: str


def row_groups(folder: StrPath, split: str | None = None) -> Iterator[RowGroup]:
    """Yields the row groups of a corpus, in the order of the records; `split` None for all splits.

    Raises:
        ArtifactError: `folder` has no shard.
    """
    folder = as_path(folder, "folder")
    if split is not None and split not in SPLITS:
        raise ConfigError(f"`split` must be one of {', '.join(SPLITS)}, got {split!r:.80}.")
    if not any(folder.glob("*.parquet")):
        raise ArtifactError(f"no Parquet shard found in {folder}. Run the stage `ingest`.")
    for name in SPLITS if split is None else (split,):
        for path in sorted(folder.glob(f"{name}-*.parquet")):
            yield from (RowGroup(path, number, name) for number in range(count_row_groups(path, SCHEMA)))


def read_group(group: RowGroup, columns: list[str] | None = None) -> pa.Table:
    """Reads the records of a row group; `columns` None for all of `SCHEMA`.

    Raises:
        ArtifactError: the shard is missing or damaged.
    """
    return read_row_group(group.path, group.number, SCHEMA, columns)


class _Shards:
    """The shards of one split: a buffer of one row group, and the current file."""

    def __init__(self, folder: Path, split: str, records_per_shard: int) -> None:
        self.num_records = 0
        self._folder, self._split, self._records_per_shard = folder, split, records_per_shard
        self._tables: list[pa.Table] = []
        self._num_buffered = self._buffered_characters = 0
        self._num_shards = self._num_in_shard = 0
        self._writer: Any = None

    def add(self, table: pa.Table) -> None:
        """Appends records; starts a new row group or shard when the current one is full."""
        while table.num_rows:
            part = table.slice(0, self._records_per_shard - self._num_in_shard)
            table = table.slice(part.num_rows)
            self._tables.append(part)
            self._num_buffered += part.num_rows
            self._buffered_characters += pc.sum(pc.utf8_length(part.column("text"))).as_py()
            self.num_records += part.num_rows
            self._num_in_shard += part.num_rows
            is_full = self._num_in_shard == self._records_per_shard
            if is_full or self._num_buffered >= _GROUP_RECORDS or self._buffered_characters >= _GROUP_CHARACTERS:
                self._write_group()
            if is_full:
                self._end_shard()

    def close(self, complete: bool) -> None:
        """Closes the current file, after writing the buffer if `complete`."""
        if complete:
            self._write_group()
        self._end_shard()

    def _write_group(self) -> None:
        if not self._tables:
            return
        if self._writer is None:
            path = self._folder / f"{self._split}-{self._num_shards:05d}.parquet"
            self._writer = pq.ParquetWriter(
                path, SCHEMA, compression="zstd", compression_level=1, version="2.6", use_dictionary=_DICTIONARIES
            )
            self._num_shards += 1
        # A single chunk, so that the bytes do not depend on the sizes of the added tables.
        self._writer.write_table(pa.concat_tables(self._tables).combine_chunks(), row_group_size=self._num_buffered)
        self._tables, self._num_buffered, self._buffered_characters = [], 0, 0

    def _end_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._num_in_shard = None, 0


def _cell(record: Record, name: str) -> Any:
    if name == "entities":
        return [entity._asdict() for entity in record.entities]
    return getattr(record, name)


def _rows(group: RowGroup, variants: Collection[str] | None) -> Iterator[Record]:
    for row in read_group(group).to_pylist():
        if variants is None or row["variant"] in variants:
            entities = tuple(Entity(**entity) for entity in row.pop("entities"))
            record = Record(**row, entities=entities)
            if entities and (reason := fault(record)) is not None:
                raise ArtifactError(f"{group.path} is damaged: record {record.id!r:.80}: {reason}. Run `dvc checkout`.")
            yield record


def encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8, that is, has no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
