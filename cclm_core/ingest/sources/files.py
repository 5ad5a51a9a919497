"""Local files: plain text, JSON lines, CSV, Parquet, CoNLL. Each is read in a stream."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.ingest.sources.columns import Columns, row_reader
from cclm_core.ingest.sources.conll import read_conll
from cclm_core.ingest.sources.lines import LONGEST_LINE, read_lines
from cclm_core.ingest.sources.pieces import PORTION, Piece, pieces, portions
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.config import Config
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


class FilesConfig(Config):
    """Local files as the source of a corpus.

    Args:
        paths: the files, read in this order; relative to the folder where the command runs.
        format: `text` makes a record of each line that is not empty; None goes by each file's suffix.
        columns: for `jsonl`, `csv` and `parquet`.
        delimiter: of CSV; None is a comma, or a tab for `.tsv`.
        token_column, tag_column: of CoNLL, counted from 0; -1 is the last.
        group_by_file: a file's name is the group of its records where nothing else is, so that whole files can be
            named in `validation_groups` and `test_groups`.
    """

    kind: Literal["files"]
    paths: tuple[str, ...] = Field(min_length=1)
    format: Format | None = None
    columns: Columns = Columns()
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    token_column: int = Field(default=0, ge=0)
    tag_column: int = Field(default=-1, ge=-1)
    group_by_file: bool = False


class FilePart(NamedTuple):
    """A part of a file that any process can read: lines, or rows of a table as an Arrow stream from row `line` on."""

    format: Format
    path: Path
    name: str
    group: str | None
    piece: Piece | None
    rows: bytes = b""
    line: int = 1


def file_parts(config: FilesConfig) -> Iterator[FilePart | list[Located | Rejected]]:
    """The parts of all files, in order: text, JSON lines and Parquet to be read anywhere, the others as records.

    Quoted line ends and sentences keep CSV and CoNLL from being cut without having been read.

    Raises:
        DataError: a file is missing, is a folder, is of no known format or lacks a column.
    """
    for path, name in named_files(config):
        kind = file_format(config, path)
        group = name if config.group_by_file else None
        if kind in ("text", "jsonl"):
            yield from (FilePart(kind, path, name, group, piece) for piece in pieces(path))
        elif kind == "parquet":
            yield from _parquet_parts(path, name, group, config)
        else:
            yield from portions(_READERS[kind](FilePart(kind, path, name, group, None), config))


def read_part(part: FilePart, config: FilesConfig) -> Iterator[Located | Rejected]:
    """The records of a part."""
    return _READERS[part.format](part, config)


def read_files(config: FilesConfig) -> Iterator[Located | Rejected]:
    """The records of all files, in order.

    Raises:
        DataError: as `file_parts`.
    """
    for part in file_parts(config):
        yield from part if isinstance(part, list) else read_part(part, config)


def describe_files(config: FilesConfig) -> dict[str, Any]:
    """What was read, for `source.json`: names and SHA-256, no folders outside the project."""
    return {
        "kind": "files",
        "files": [{"name": name, "sha256": file_digest(path)} for path, name in named_files(config)],
        "licence": "not known; it is that of the files",
    }


def named_files(config: FilesConfig) -> list[tuple[Path, str]]:
    """Each file with the name under which it appears in outputs: a path outside the project is cut to its end."""
    named: list[tuple[Path, str]] = []
    for given in config.paths:
        path = Path(given)
        if path.is_dir():
            raise DataError(f"ingest.source.paths must name files, but {given} is a folder; name the files in it.")
        if not path.is_file():
            raise DataError(f"ingest.source.paths: there is no file {given}; check the path.")
        file_format(config, path)
        outside = PurePath(given).is_absolute() or ".." in PurePath(given).parts
        name = path.name if outside else PurePath(given).as_posix()
        if any(name == other for _, other in named):
            raise DataError(f"ingest.source.paths must have different names, but {name} is there twice.")
        named.append((path, name))
    return named


def file_format(config: FilesConfig, path: Path) -> Format:
    found = config.format or _SUFFIXES.get(path.suffix.lower())
    if found is None:
        known = ", ".join(sorted(_SUFFIXES))
        raise DataError(f"{path.name} must end in one of {known}, or ingest.source.format must say what it is.")
    return found


def _read_text(part: FilePart, config: FilesConfig) -> Iterator[Located | Rejected]:
    del config
    name, group = part.name, part.group
    for numbered in read_lines(part.path, name, part.piece):
        if isinstance(numbered, Rejected):
            yield numbered
        elif numbered[1].strip():
            record = Record(id=f"{name}:{numbered[0]}", text=numbered[1], group=group)
            yield Located(record, name, numbered[0])


def _read_jsonl(part: FilePart, config: FilesConfig) -> Iterator[Located | Rejected]:
    name, record_of = part.name, row_reader(config.columns, part.name, part.group)
    decode = json.JSONDecoder().decode
    for numbered in read_lines(part.path, name, part.piece):
        if isinstance(numbered, Rejected):
            yield numbered
            continue
        line, text = numbered
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


def _read_csv(part: FilePart, config: FilesConfig) -> Iterator[Located | Rejected]:
    path, name = part.path, part.name
    record_of = row_reader(config.columns, name, part.group)
    delimiter = config.delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
    # Surrogates stand for bytes that are no UTF-8; they are found and rejected row by row.
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
            for batch in table.iter_batches(batch_size=PORTION, columns=config.columns.names(), use_threads=False):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema) as stream:
                    stream.write_batch(batch)
                yield FilePart("parquet", path, name, group, None, sink.getvalue().to_pybytes(), line)
                line += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name} must be a Parquet file: {error}. Write it again.") from None


def _read_parquet(part: FilePart, config: FilesConfig) -> Iterator[Located | Rejected]:
    try:
        rows = pa.ipc.open_stream(part.rows).read_all().to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{part.name} must be a Parquet file: {error}. Write it again.") from None
    record_of = row_reader(config.columns, part.name, part.group)
    for line, row in enumerate(rows, start=part.line):
        yield record_of(row, line)


def _read_conll(part: FilePart, config: FilesConfig) -> Iterator[Located | Rejected]:
    lines = read_lines(part.path, part.name)
    return read_conll(lines, part.name, config.token_column, config.tag_column, part.group)


_Reader = Callable[[FilePart, FilesConfig], Iterator[Located | Rejected]]

_READERS: dict[Format, _Reader] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "conll": _read_conll,
}


def _require(names: list[str], columns: Columns, file: str) -> None:
    for name in columns.names():
        if name not in names:
            raise DataError(f"{file} must have a column `{name}` (ingest.source.columns); it has {', '.join(names)}.")


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value) if value else None
    except ValueError:
        return value
