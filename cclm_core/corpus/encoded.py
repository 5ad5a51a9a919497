"""The encoded corpus: ids and tags of every split in flat, memory-mapped files.

```
preprocessor.json            the vocabulary
encoded.json                 {"splits": {"train": num_ids, …}, "entity_labels": […], "preprocessor": digest}
<split>.ids.bin              uint16, little endian: the ids of the documents, each followed by an END
<split>.tags.bin             uint8: a BIO tag per id
<split>.documents.parquet    id, start, length (ids, without the END), author, group, variant, label
```

Tags: 0 is O, 1 + 2k is B of entity label k, 2 + 2k is I. Reading and writing never load a whole split into memory.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, TypeGuard

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cclm_core.corpus.encoded_split import DOCUMENTS, DocumentLabels, EncodedSplit, Tags
from cclm_core.corpus.records import SPLITS, Entity, Record, RowGroup, read_group, to_table
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.errors import ArtifactError, DataError, IntegrityError
from cclm_core.runtime.files import StrPath, as_path
from cclm_core.text.vocabulary import END, Ids, Preprocessor

OUTSIDE = 0
MAX_LABELS = 127  # tags are stored as uint8

# Limits of a chunk, which is encoded at once and becomes a row group of the documents. They bound the memory.
_RECORDS = 4096
_CHARACTERS = 1 << 22


def begin_tag(label: int) -> int:
    """The B tag of entity label number `label`. The I tag is one higher."""
    return 1 + 2 * label


class EncodedCorpus:
    """A folder with an encoded corpus, opened for reading.

    Attributes:
        folder: the folder of the corpus.
        preprocessor: the vocabulary of the ids.
        entity_labels: label k has the tags 1 + 2k and 2 + 2k.
        num_ids: split → number of ids.
    """

    def __init__(self, folder: Path, preprocessor: Preprocessor, labels: list[str], lengths: dict[str, int]) -> None:
        self.folder = folder
        self.preprocessor = preprocessor
        self.entity_labels = labels
        self.num_ids = lengths
        self._training_labels = DocumentLabels(self._documents("train"))

    @classmethod
    def open(cls, folder: StrPath) -> Self:
        """Opens a folder without reading any ids.

        Raises:
            ArtifactError: a file is missing or damaged.
            IntegrityError: the ids were made with another vocabulary.
        """
        folder = as_path(folder, "folder")
        about = read_json(folder / "encoded.json")
        splits, labels = about.get("splits"), about.get("entity_labels")
        if not _are_lengths(splits) or not _are_labels(labels) or not isinstance(about.get("preprocessor"), str):
            raise ArtifactError(
                f"{folder}/encoded.json must have splits, entity_labels and preprocessor, each valid. Run the stage "
                "`vocab`."
            )
        preprocessor = Preprocessor.load(folder / "preprocessor.json")
        if preprocessor.digest != about["preprocessor"]:
            raise IntegrityError(f"{folder}: the ids were made with another vocabulary. Run the stage `vocab` again.")
        return cls(folder, preprocessor, labels, splits)

    def split(self, name: str) -> EncodedSplit:
        """The split with this name.

        Raises:
            ArtifactError: the split does not exist, or one of its files has the wrong length.
        """
        if name not in self.num_ids:
            raise ArtifactError(f"split {name!r} not found in {self.folder}. Choose one of {sorted(self.num_ids)}.")
        ids: Ids = _mapped(self.folder / f"{name}.ids.bin", "<u2", self.num_ids[name])
        tags: Tags = _mapped(self.folder / f"{name}.tags.bin", "u1", self.num_ids[name])
        return EncodedSplit(ids, tags, self._documents(name), self._training_labels)

    @property
    def document_labels(self) -> tuple[str, ...]:
        """The labels of the training documents, see `DocumentLabels.names`; empty if they have none."""
        return self._training_labels.names

    def _documents(self, split: str) -> Path:
        return self.folder / f"{split}.documents.parquet"


class Encoding(NamedTuple):
    """Records as ids and tags, each record followed by an END.

    Attributes:
        ids: (N,) uint16.
        tags: (N,) uint8.
        lengths: (R,) int64, the number of ids of each record, END excluded.
        num_fallbacks: the number of characters that became bytes.
    """

    ids: Ids
    tags: Tags
    lengths: npt.NDArray[np.int64]
    num_fallbacks: int


def encode_records(records: Sequence[Record], preprocessor: Preprocessor, entity_labels: Sequence[str]) -> Encoding:
    """Encodes records and their entity spans. All bytes of a character belong to its span.

    Raises:
        DataError: a lone surrogate, a span outside its text, or a label that `entity_labels` lacks.
    """
    spans = {row: record.entities for row, record in enumerate(records) if record.entities}
    names = [record.id for record in records]
    return _encode([record.text for record in records], names, spans, preprocessor, entity_labels)


def _encode(
    texts: Sequence[str],
    names: Sequence[str],
    spans: Mapping[int, Sequence[Entity]],
    preprocessor: Preprocessor,
    entity_labels: Sequence[str],
) -> Encoding:
    """Encodes texts; `names` are for error messages, `spans` maps the index of a text to its entities."""
    ragged = preprocessor.encode_ragged(texts)
    starts = np.cumsum(ragged.lengths + 1) - (ragged.lengths + 1)
    ids = np.full(len(ragged.ids) + len(texts), END, dtype=np.uint16)
    is_text = np.ones(len(ids), dtype=bool)
    is_text[starts + ragged.lengths] = False
    ids[is_text] = ragged.ids
    tags = np.zeros(len(ids), dtype=np.uint8)
    for row, entities in spans.items():
        document = Record(names[row], texts[row], entities=tuple(entities))
        _tag(tags[starts[row] :], document, preprocessor, entity_labels, exact=ragged.fallbacks[row] == 0)
    return Encoding(ids, tags, ragged.lengths, int(ragged.fallbacks.sum()))


class EncodedGroup(NamedTuple):
    """An encoded row group.

    Attributes:
        split: the split of all its records.
        encoding: ids and tags.
        documents: the columns of the documents except start and length.
        characters: the number of characters.
    """

    split: str
    encoding: Encoding
    documents: pa.Table
    characters: int


@dataclass(frozen=True)
class GroupEncoder:
    """Encodes row groups of a corpus. Can be pickled and sent to worker processes."""

    preprocessor: Preprocessor
    entity_labels: tuple[str, ...]

    def __call__(self, group: RowGroup) -> EncodedGroup:
        """Reads and encodes a row group.

        Raises:
            DataError: see `encode_records`.
        """
        return self.encode(read_group(group), group.split)

    def encode(self, table: pa.Table, split: str) -> EncodedGroup:
        """Encodes a table of records, all of one split."""
        texts, names = table.column("text").to_pylist(), table.column("id").to_pylist()
        entities = table.column("entities")
        rows = np.flatnonzero(pc.list_value_length(entities).to_numpy())
        values = entities.take(pa.array(rows)).to_pylist()
        spans = {row: [Entity(**value) for value in cell] for row, cell in zip(rows.tolist(), values, strict=True)}
        encoding = _encode(texts, names, spans, self.preprocessor, self.entity_labels)
        documents = table.select(["id", "author", "group", "variant", "label"])
        return EncodedGroup(split, encoding, documents, sum(map(len, texts)))


@dataclass
class SplitCounts:
    """Totals of one split."""

    documents: int = 0
    characters: int = 0
    fallback_characters: int = 0
    ids: int = 0


class EncodedWriter:
    """Writes an encoded corpus into an empty folder, as a context manager. The module lists the files.

    Attributes:
        counts: split → totals written so far.
        tags: entity label → number of ids with its B or I tag, in all splits.
    """

    def __init__(self, folder: StrPath, preprocessor: Preprocessor, entity_labels: Iterable[str]) -> None:
        """Opens the files of all splits.

        Raises:
            DataError: more than 127 entity labels.
        """
        self.folder = folder = as_path(folder, "folder")
        self.preprocessor = preprocessor
        self.entity_labels = sorted(set(entity_labels))
        if len(self.entity_labels) > MAX_LABELS:
            num_labels = len(self.entity_labels)
            raise DataError(f"a corpus can have at most {MAX_LABELS} entity labels, got {num_labels}. Merge some.")
        self.counts = {name: SplitCounts() for name in SPLITS}
        self.tags = dict.fromkeys(self.entity_labels, 0)
        self._files = {name: _SplitFiles(folder, name) for name in SPLITS}

    @property
    def encoder(self) -> GroupEncoder:
        """The encoder of row groups for this writer, for use in this process or another."""
        return GroupEncoder(self.preprocessor, tuple(self.entity_labels))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for files in self._files.values():
            files.close()
        if kind is None:
            self.preprocessor.save(self.folder / "preprocessor.json")
            splits = {name: counts.ids for name, counts in self.counts.items()}
            about = {"splits": splits, "entity_labels": self.entity_labels, "preprocessor": self.preprocessor.digest}
            write_json(self.folder / "encoded.json", about)

    def write(self, records: Iterable[Record]) -> Iterator[int]:
        """Appends records to their splits; yields the number of records of each chunk written.

        Raises:
            DataError: see `encode_records`, or an unknown split.
        """
        for chunk in _chunks(records):
            for split, group in groupby(chunk, key=lambda record: record.split):
                if split not in self._files:
                    raise DataError(f"a split must be one of {', '.join(SPLITS)}, got {split!r}.")
                self.append(self.encoder.encode(to_table(list(group)), split))
            yield len(chunk)

    def append(self, group: EncodedGroup) -> None:
        """Appends a row group encoded by `encoder`."""
        encoding, counts = group.encoding, self.counts[group.split]
        self._files[group.split].append(encoding, group.documents, counts.ids)
        counts.documents += group.documents.num_rows
        counts.characters += group.characters
        counts.fallback_characters += encoding.num_fallbacks
        counts.ids += len(encoding.ids)
        per_label = np.bincount((encoding.tags + np.uint8(1)) >> 1, minlength=len(self.entity_labels) + 1)
        for label, number in zip(self.entity_labels, per_label[1:].tolist(), strict=True):
            self.tags[label] += number


class _SplitFiles:
    """The three open files of one split."""

    def __init__(self, folder: Path, name: str) -> None:
        self._ids: BinaryIO = (folder / f"{name}.ids.bin").open("wb")
        self._tags: BinaryIO = (folder / f"{name}.tags.bin").open("wb")
        self._documents = pq.ParquetWriter(folder / f"{name}.documents.parquet", DOCUMENTS, compression="zstd")

    def append(self, encoding: Encoding, documents: pa.Table, start: int) -> None:
        """Appends an encoded row group; `start` is the number of ids already in the split."""
        self._ids.write(np.ascontiguousarray(encoding.ids, dtype="<u2").data)
        self._tags.write(np.ascontiguousarray(encoding.tags).data)
        steps = encoding.lengths + 1
        columns = {name: documents.column(name) for name in documents.column_names}
        columns["start"] = pa.array(start + np.cumsum(steps) - steps)
        columns["length"] = pa.array(encoding.lengths.astype(np.int32))
        self._documents.write_table(pa.table({name: columns[name] for name in DOCUMENTS.names}, schema=DOCUMENTS))

    def close(self) -> None:
        """Closes the files."""
        self._ids.close()
        self._tags.close()
        self._documents.close()


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    chunk: list[Record] = []
    size = 0
    for record in records:
        chunk.append(record)
        size += len(record.text)
        if len(chunk) == _RECORDS or size >= _CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _tag(tags: Tags, record: Record, preprocessor: Preprocessor, labels: Sequence[str], exact: bool) -> None:
    """Writes the tags of one record. `tags` starts at its first id; `exact` means that id k is character k."""
    first = int(preprocessor.config.cls)
    offsets = None if exact else preprocessor.offsets(record.text)
    for entity in record.entities:
        if not 0 <= entity.start < entity.end <= len(record.text):
            raise DataError(
                f"document {record.id}: the span {tuple(entity)} must be within the {len(record.text)} characters. "
                "Correct the record."
            )
        if entity.label not in labels:
            raise DataError(f"document {record.id}: the label must be one of {list(labels)}, got {entity.label!r}.")
        if offsets is None:
            start, end = entity.start + first, entity.end + first
        else:
            start, end = np.searchsorted(offsets, [entity.start, entity.end]).tolist()
        begin = begin_tag(labels.index(entity.label))
        tags[start] = begin
        tags[start + 1 : end] = begin + 1


def _are_lengths(value: Any) -> TypeGuard[dict[str, int]]:
    return isinstance(value, dict) and all(
        name in SPLITS and isinstance(length, int) and not isinstance(length, bool) and length >= 0
        for name, length in value.items()
    )


def _are_labels(value: Any) -> TypeGuard[list[str]]:
    are_names = isinstance(value, list) and all(isinstance(label, str) and label for label in value)
    return are_names and len(value) == len(set(value)) and len(value) <= MAX_LABELS


def _mapped(path: Path, kind: str, length: int) -> npt.NDArray[Any]:
    expected = length * np.dtype(kind).itemsize
    if not path.is_file() or path.stat().st_size != expected:
        actual = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
        raise ArtifactError(f"{path} must have {expected} bytes, got {actual}. Run the stage `vocab` again.")
    return np.memmap(path, dtype=kind, mode="r") if length else np.empty(0, dtype=kind)
