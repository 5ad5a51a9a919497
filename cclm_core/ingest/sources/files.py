"""Streams records from local files: plain text, JSON lines, CSV, Parquet, CoNLL."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.ingest.sources.base import BATCH_RECORDS, Items, SourceConfig, batched
from cclm_core.ingest.sources.columns import Columns, row_reader
from cclm_core.ingest.sources.conll import read_conll
from cclm_core.ingest.sources.lines import LONGEST_LINE, ByteRange, read_lines, split_at_lines
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.errors import DataError

Format = Literal["text", "jsonl", "csv", "parquet", "conll"]

_SUFFIXES: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
}


class FilesConfig(SourceConfig):
    """Local files as the source of a corpus.

    Args:
        paths: the files in reading order, relative to the current folder.
        format: format of all files; with `text`, each nonempty line is a record. With None, the suffix of each file
            decides.
        columns: columns of `jsonl`, `csv` and `parquet`.
        delimiter: delimiter of `csv`; None for a comma, or a tab in `.tsv` files.
        token_column, tag_column: columns of `conll`, from 0; -1 is the last.
        group_by_file: use the name of the file as the group of records without a group, so that you can name files in
            `validation_groups` and `test_groups`.
    """

    kind: Literal["files"]
    paths: tuple[str, ...] = Field(min_length=1)
    format: Format | None = None
    columns: Columns = Columns()
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    token_column: int = Field(default=0, ge=0)
    tag_column: int = Field(default=-1, ge=-1)
    group_by_file: bool = False

    @property
    def ids_may_repeat(self) -> bool:
        """Whether ids come from a column."""
        return self.columns.id is not None

    @property
    def reads_in_workers(self) -> bool:
        """Whether any file is text, JSON lines or Parquet.

        CSV and CoNLL cannot be split without parsing, because quoted values and sentences span lines.
        """
        return any(_format(self, path) in ("text", "jsonl", "parquet") for path, _ in named_files(self))

    def parts(self, downloads: Path) -> "Iterator[FilePart | list[Located | Rejected]]":  # noqa: ARG002
        """Yields the parts of all files: `FilePart` for text, JSON lines and Parquet, records for other formats.

        Raises:
            DataError: a file is missing, is a folder, has an unknown format or lacks a column.
        """
        for path, name in named_files(self):
            file_format = _format(self, path)
            group = name if self.group_by_file else None
            if file_format in ("text", "jsonl"):
                yield from (FilePart(file_format, path, name, group, lines) for lines in split_at_lines(path))
            elif file_format == "parquet":
                yield from _parquet_parts(path, name, group, self)
            else:
                yield from batched(_READERS[file_format](FilePart(file_format, path, name, group, None), self))

    def read_part(self, part: "FilePart | list[Located | Rejected]") -> Iterable[Located | Rejected]:
        """Yields the records of a part in order."""
        return part if isinstance(part, list) else _READERS[part.format](part, self)

    def describe(self) -> dict[str, Any]:
        """Returns the name and SHA-256 of each file."""
        return {
            "kind": "files",
            "files": [{"name": name, "sha256": file_digest(path)} for path, name in named_files(self)],
            "license": "unknown; that of the files",
        }


class FilePart(NamedTuple):
    """A part of a file that any process can read.

    Args:
        format: format of the file.
        path: the file.
        name: name of the file in outputs.
        group: group of the records that have none in a column.
        lines: lines of a text file; None for all.
        rows: rows of a table, as an Arrow stream.
        line: number of the first of `rows`, from 1.
    """

    format: Format
    path: Path
    name: str
    group: str | None
    lines: ByteRange | None
    rows: bytes = b""
    line: int = 1


def named_files(config: FilesConfig) -> list[tuple[Path, str]]:
    """Returns the files with their names in outputs: the path, or the file name if the path is outside the project.

    Raises:
        DataError: a file is missing, is a folder, has an unknown format, or two have the same name.
    """
    named: list[tuple[Path, str]] = []
    for configured in config.paths:
        path = Path(configured)
        if path.is_dir():
            raise DataError(f"ingest.source.paths: {configured} is a folder. List the files in it.")
        if not path.is_file():
            raise DataError(f"ingest.source.paths: file {configured} not found. Check the path.")
        _format(config, path)
        is_outside = PurePath(configured).is_absolute() or ".." in PurePath(configured).parts
        name = path.name if is_outside else PurePath(configured).as_posix()
        if any(name == earlier for _, earlier in named):
            raise DataError(f"ingest.source.paths: two files are named {name}. Rename one; ids contain the name.")
        named.append((path, name))
    return named


def _format(config: FilesConfig, path: Path) -> Format:
    file_format = config.format or _SUFFIXES.get(path.suffix.lower())
    if file_format is None:
        suffixes = ", ".join(sorted(_SUFFIXES))
        raise DataError(f"{path.name}: unknown format. Use a suffix of {suffixes}, or set ingest.source.format.")
    return file_format


def _read_text(part: FilePart, config: FilesConfig) -> Items:
    del config
    name, group = part.name, part.group
    for item in read_lines(part.path, name, part.lines):
        if isinstance(item, Rejected):
            yield item
            continue
        line, text = item
        if text.strip():
            yield Located(Record(id=f"{name}:{line}", text=text, group=group), name, line)


def _read_jsonl(part: FilePart, config: FilesConfig) -> Items:
    name, record_of = part.name, row_reader(config.columns, part.name, part.group)
    decode = json.JSONDecoder().decode
    for item in read_lines(part.path, name, part.lines):
        if isinstance(item, Rejected):
            yield item
            continue
        line, text = item
        if not text.strip():
            continue
        try:
            row = decode(text)
        except (ValueError, RecursionError):
            yield Rejected(name, line, "not JSON", text)
            continue
        if isinstance(row, dict):
            yield record_of(row, line)
        else:
            yield Rejected(name, line, "not a JSON object", text)


def _read_csv(part: FilePart, config: FilesConfig) -> Items:
    path, name = part.path, part.name
    record_of = row_reader(config.columns, name, part.group)
    delimiter = config.delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
    # Invalid bytes become surrogates, so that only their own row is rejected.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        csv.field_size_limit(LONGEST_LINE)
        rows = csv.reader(stream, delimiter=delimiter, strict=True)
        header = next(rows, None)
        if header is None:
            return
        _require(header, config.columns, name)
        while True:
            line = rows.line_num + 1
            try:
                values = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Rejected(name, line, f"not CSV: {error}", "")
                continue
            if not values:
                continue
            joined = delimiter.join(values)
            if any("\udc80" <= character <= "\udcff" for character in joined):
                yield Rejected(name, line, "invalid UTF-8", joined.encode("utf-8", "backslashreplace").decode())
            elif len(values) != len(header):
                yield Rejected(name, line, f"{len(header)} columns expected", joined)
            else:
                row: dict[str, Any] = dict(zip(header, values, strict=True))
                if config.columns.entities:
                    row[config.columns.entities] = _json_or_text(row[config.columns.entities])
                yield record_of(row, line)


def _parquet_parts(path: Path, name: str, group: str | None, config: FilesConfig) -> Iterator[FilePart]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            _require(table.schema_arrow.names, config.columns, name)
            line = 1
            for batch in table.iter_batches(
                batch_size=BATCH_RECORDS, columns=config.columns.names(), use_threads=False
            ):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema) as stream:
                    stream.write_batch(batch)
                yield FilePart("parquet", path, name, group, None, sink.getvalue().to_pybytes(), line)
                line += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name} is not a valid Parquet file: {error}. Check ingest.source.format.") from None


def _read_parquet(part: FilePart, config: FilesConfig) -> Items:
    try:
        rows = pa.ipc.open_stream(part.rows).read_all().to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{part.name} is not a valid Parquet file: {error}. Check ingest.source.format.") from None
    record_of = row_reader(config.columns, part.name, part.group)
    for line, row in enumerate(rows, start=part.line):
        yield record_of(row, line)


def _read_conll(part: FilePart, config: FilesConfig) -> Items:
    lines = read_lines(part.path, part.name)
    return read_conll(lines, part.name, config.token_column, config.tag_column, part.group)


_READERS: dict[Format, Callable[[FilePart, FilesConfig], Items]] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "conll": _read_conll,
}


def _require(names: list[str], columns: Columns, file: str) -> None:
    for name in columns.names():
        if name not in names:
            available = ", ".join(names)
            raise DataError(f"column `{name}` not found in {file}. Set ingest.source.columns; it has {available}.")


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value) if value else None
    except ValueError:
        return value
