"""Reads the first rows of a table, of whatever format, with all columns."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.csv_rows import CsvFormat, Row, read_rows
from cclm_core.ingest.sources.json_lines import decode
from cclm_core.ingest.sources.lines import read_lines
from cclm_core.ingest.sources.parquet import read_slices, readable_columns
from cclm_core.ingest.sources.paths import suffix_of
from cclm_core.labeled.columns import LabeledColumns
from cclm_core.survey.layout import Layout

MAX_ROWS = 20_000
"""Rows that are read to find out what the columns hold."""


def first_rows(path: Path, name: str, layout: Layout) -> list[dict[str, Any]]:
    """The first usable rows of a table: column -> cell.

    Args:
        path: the file: CSV, JSON lines or Parquet.
        name: its name in messages.
        layout: how it is written.

    Raises:
        DataError: the file cannot be read.
    """
    file_format = layout.format_of(path)
    readers = {"csv": _csv, "jsonl": _json_lines, "parquet": _parquet}
    return list(islice(readers[file_format](path, name, layout), MAX_ROWS))


def _csv(path: Path, name: str, layout: Layout) -> Iterator[dict[str, Any]]:
    delimiter = layout.delimiter or ("\t" if suffix_of(path) == ".tsv" else ",")
    rows = read_rows(path, name, CsvFormat(delimiter, layout.encoding, layout.header, layout.quotes))
    header = next(rows)
    assert isinstance(header, Row)
    for row in rows:
        if isinstance(row, Row):
            yield dict(zip(header.cells, row.cells, strict=True))


def _json_lines(path: Path, name: str, layout: Layout) -> Iterator[dict[str, Any]]:
    for item in read_lines(path, name, encoding=layout.encoding):
        if not isinstance(item, Rejected) and item[1].strip() and isinstance(row := decode(item[1]), dict):
            yield row


def _parquet(path: Path, name: str, layout: Layout) -> Iterator[dict[str, Any]]:  # noqa: ARG001
    names = readable_columns(path, name)
    if not names:
        return
    for item in read_slices(path, name, LabeledColumns(text=names[0], slices=tuple(names[1:]))):
        if not isinstance(item, Rejected):
            yield from item.batch.to_pylist()
