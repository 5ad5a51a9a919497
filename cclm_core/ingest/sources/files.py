"""Streams records from local files: plain text, JSON lines, CSV, Parquet, CoNLL; all but Parquet also compressed."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field, field_validator

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.ingest.sources.base import Items, SourceConfig, batched
from cclm_core.ingest.sources.columns import Columns, check_columns
from cclm_core.ingest.sources.conll import ConllFormat, TagScheme, read_conll
from cclm_core.ingest.sources.content import check_pointer, check_text, checked_encoding, compression
from cclm_core.ingest.sources.csv_rows import CsvFormat, read_rows
from cclm_core.ingest.sources.json_lines import check_keys, decode
from cclm_core.ingest.sources.lines import ByteRange, read_lines, split_at_lines
from cclm_core.ingest.sources.parquet import read_slices
from cclm_core.ingest.sources.paths import Format, find_files, format_of, suffix_of
from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.errors import DataError


class FilesConfig(SourceConfig):
    """Local files as the source of a corpus.

    Args:
        paths: files, folders and patterns such as `input/2024-*.csv.gz`, in reading order, relative to the current
            folder; a single one may be written without a list. Files compressed with gzip, bzip2, xz or zstd are
            unpacked while they are read.
        format: format of all files; with `text`, each nonempty line is a record. With None, the suffix of each file
            decides.
        columns: columns of `jsonl`, `csv` and `parquet`.
        delimiter: delimiter of `csv`; None for a comma, or a tab in `.tsv` files.
        header: names of the columns of `csv` files without a header; empty if the first line of each is its header.
        quotes: whether cells of `csv` may be in double quotes; false where a quote is an ordinary character, as in many
            `.tsv` files.
        encoding: encoding of files that are not UTF-8, as Python names it: cp1252, gb18030, shift_jis and others.
        token_column, tag_column: columns of `conll`, from 0; -1 is the last.
        tag_scheme: tags of `conll`: `iob` for any scheme with prefixes such as B-; `io` for bare labels.
        token_separator: text between two tokens of `conll`; set it to "" for scripts without spaces.
        group_by_file: use the name of the file as the group of records without a group, so that you can name files in
            `validation_groups` and `test_groups`.
        label_by_file: use the name of a `text` file, without folder and suffix, as the label of its texts.
        paragraphs: whether a record of `text` goes on to the next empty line, instead of to the end of its line.
    """

    kind: Literal["files"]
    paths: tuple[str, ...] = Field(min_length=1)
    format: Format | None = None
    columns: Columns = Columns()
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    header: tuple[str, ...] = ()
    quotes: bool = True
    encoding: str = "utf-8"
    token_column: int = Field(default=0, ge=0)
    tag_column: int = Field(default=-1, ge=-1)
    tag_scheme: TagScheme = "iob"
    token_separator: str = " "
    group_by_file: bool = False
    label_by_file: bool = False
    paragraphs: bool = False

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path(cls, paths: Any) -> Any:
        """Accepts one path without a list."""
        return [paths] if isinstance(paths, str) else paths

    @field_validator("delimiter")
    @classmethod
    def _separates(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and delimiter in '"\r\n':
            raise ValueError(f"a quote or a line end cannot be the delimiter, got {delimiter!r}")
        return delimiter

    @field_validator("header")
    @classmethod
    def _different_names(cls, header: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := sorted({name for name in header if header.count(name) > 1}):
            raise ValueError(f"the names of columns must differ, got {repeated[0]!r} twice")
        return header

    @field_validator("encoding")
    @classmethod
    def _decodes_lines(cls, encoding: str) -> str:
        return checked_encoding(encoding)

    @property
    def ids_may_repeat(self) -> bool:
        """Whether ids come from a column."""
        return self.columns.id is not None

    @property
    def keeps_tags(self) -> bool:
        """Whether the sentences of `conll` keep their tokens and tags."""
        return False

    @property
    def reads_in_workers(self) -> bool:
        """Whether any file is text, JSON lines or Parquet.

        CSV, CoNLL and paragraphs cannot be split without parsing, because quoted values, sentences and paragraphs span
        lines. Compressed files cannot be split at all.
        """
        formats = {format_of(path, self.format) for path, _ in named_files(self)}
        return bool(formats & {"jsonl", "parquet"}) or ("text" in formats and not self.paragraphs)

    def parts(self, downloads: Path) -> "Iterator[FilePart | list[Located | Rejected]]":  # noqa: ARG002
        """Yields the parts of all files: `FilePart` for text, JSON lines and Parquet, records for other formats.

        Raises:
            DataError: a file is missing, has an unknown format, does not match its format, or lacks a column.
        """
        files = named_files(self)
        for path, name in files:
            _check_content(self, path, name)
        for path, name in files:
            file_format = format_of(path, self.format)
            group = name if self.group_by_file else None
            if file_format == "jsonl":
                check_keys(path, name, self.columns, self.encoding)
            is_split = file_format == "jsonl" or (file_format == "text" and not self.paragraphs)
            if is_split and compression(path, name) is None:
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
        DataError: a file is missing or has an unknown format, or two have the same name.
    """
    named: dict[str, Path] = {}
    for configured in config.paths:
        for path in map(Path, find_files(configured, config.format)):
            format_of(path, config.format)
            is_outside = path.is_absolute() or ".." in path.parts
            name = path.name if is_outside else path.as_posix()
            if name in named and (named[name] != path or str(path) == configured):
                raise DataError(f"ingest.source.paths: two files are named {name}. Rename one; ids contain the name.")
            named[name] = path
    return [(path, name) for name, path in named.items()]


def _check_content(config: FilesConfig, path: Path, name: str) -> None:
    check_pointer(path, name)
    file_format = format_of(path, config.format)
    for key in ("label_by_file", "paragraphs"):
        if getattr(config, key) and file_format != "text":
            raise DataError(f"ingest.source.{key} is for text files, but {name} is {file_format}. Remove it.")
    if file_format != "parquet":
        check_text(path, name, splits_at_returns=file_format == "csv")


def _read_text(part: FilePart, config: FilesConfig) -> Items:
    name, group = part.name, part.group
    label = part.path.name.split(".")[0] if config.label_by_file else None
    first, paragraph = 0, list[str]()
    end = (0, "")  # of the last paragraph
    for item in chain(read_lines(part.path, name, part.lines, config.encoding), [end]):
        if isinstance(item, Rejected):
            yield item
            continue
        line, text = item
        if "\r" in text:
            yield Rejected(name, line, "CR inside a line", text)
            continue
        is_blank = not text.strip()
        if not is_blank:
            first = first if paragraph else line
            paragraph.append(text)
        if paragraph and (is_blank or not config.paragraphs):
            record = Record(id=f"{name}:{first}", text="\n".join(paragraph), label=label, group=group)
            yield Located(record, name, first)
            paragraph = []


def _read_jsonl(part: FilePart, config: FilesConfig) -> Items:
    name, record_of = part.name, config.columns.reader(part.name, part.group)
    for item in read_lines(part.path, name, part.lines, config.encoding):
        if isinstance(item, Rejected):
            yield item
            continue
        line, text = item
        if text.strip():
            row = decode(text)
            yield Rejected(name, line, row, text) if isinstance(row, str) else record_of(row, line)


def _read_csv(part: FilePart, config: FilesConfig) -> Items:
    name, spans_column = part.name, config.columns.entities
    record_of = config.columns.reader(name, part.group)
    delimiter = config.delimiter or ("\t" if suffix_of(part.path) == ".tsv" else ",")
    rows = read_rows(part.path, name, CsvFormat(delimiter, config.encoding, config.header, config.quotes))
    header = next(rows, None)
    if header is None:
        return
    assert not isinstance(header, Rejected), "the header comes first"
    check_columns(header.cells, config.columns, name, _delimiter_hint(header.cells, config.columns))
    for item in rows:
        if isinstance(item, Rejected):
            yield item
            continue
        row: dict[str, Any] = dict(zip(header.cells, item.cells, strict=True))
        if spans_column:
            row[spans_column] = _json_or_text(row[spans_column])
        yield record_of(row, item.line)


def _delimiter_hint(header: list[str], columns: Columns) -> str:
    """Returns a sentence that names the delimiter, if another one finds the columns in the header."""
    for delimiter, written in ((";", "';'"), ("\t", '"\\t"'), ("|", "'|'"), (",", "','")):
        if len(header) == 1 and set(columns.names()) <= {part.strip('" ') for part in header[0].split(delimiter)}:
            return f" The header is separated by another character: set ingest.source.delimiter to {written}."
    return ""


def _parquet_parts(
    path: Path, name: str, group: str | None, config: FilesConfig
) -> "Iterator[FilePart | list[Located | Rejected]]":
    for item in read_slices(path, name, config.columns):
        if isinstance(item, Rejected):
            yield [item]
            continue
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, item.batch.schema) as stream:
            stream.write_batch(item.batch)
        yield FilePart("parquet", path, name, group, None, sink.getvalue().to_pybytes(), item.line)


def _read_parquet(part: FilePart, config: FilesConfig) -> Items:
    record_of = config.columns.reader(part.name, part.group)
    for line, row in enumerate(pa.ipc.open_stream(part.rows).read_all().to_pylist(), start=part.line):
        yield record_of(row, line)


def _read_conll(part: FilePart, config: FilesConfig) -> Items:
    layout = ConllFormat(
        config.token_column, config.tag_column, config.tag_scheme, config.token_separator, config.keeps_tags
    )
    return read_conll(read_lines(part.path, part.name, encoding=config.encoding), part.name, layout, part.group)


_READERS: dict[Format, Callable[[FilePart, FilesConfig], Items]] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "conll": _read_conll,
}


def _json_or_text(cell: str) -> Any:
    """Returns the spans that a cell contains as JSON; None for an empty cell, the cell itself if it is not JSON."""
    if not cell.strip():
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell
