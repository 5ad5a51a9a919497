"""The results that `cclm predict` and `cclm embed` write: JSON lines, CSV or Parquet; to a file or standard output."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import atomic_open
from cclm_core.runtime.terminal import printable_json

Rows = Sequence[Mapping[str, Any]]
Write = Callable[[Rows], None]

SUFFIXES = (".jsonl", ".csv", ".parquet")


def check_out(out: Path | None) -> None:
    """Checks the name of an output file before anything is computed.

    Raises:
        ConfigError: an unknown suffix, or a folder that does not exist.
    """
    if out is None:
        return
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out must end in {', '.join(SUFFIXES)}, got {out}.")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: the folder {out.parent} does not exist. Create it.")


@contextmanager
def writing(out: Path | None, schema: pa.Schema) -> Iterator[Write]:
    """A function that writes rows. A file appears complete, when the block ends without an error.

    Args:
        out: the file, whose suffix decides the format; None for JSON lines on standard output.
        schema: the columns and their types; JSON lines and CSV only use the names.
    """
    if out is None:
        yield _to_stdout
        return
    with atomic_open(out) as stream:
        if out.suffix.lower() == ".parquet":
            with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
                yield lambda rows: writer.write_table(_table(rows, schema))
        elif out.suffix.lower() == ".csv":
            stream.write(_csv_lines([schema.names]))
            yield lambda rows: _ignore(stream.write(_csv_lines([[_cell(row.get(name)) for name in schema.names]
                                                                for row in rows])))  # fmt: skip
        else:
            yield lambda rows: _ignore(stream.write("".join(_json(row) + "\n" for row in rows).encode()))


def _to_stdout(rows: Rows) -> None:
    for row in rows:
        values = {name: _plain(value) for name, value in row.items()}
        print(printable_json(values) if sys.stdout.isatty() else json.dumps(values, ensure_ascii=False))
    sys.stdout.flush()


def _json(row: Mapping[str, Any]) -> str:
    return json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _cell(value: Any) -> str:
    """A cell of CSV: lists and objects as JSON."""
    if value is None:
        return ""
    value = _plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _csv_lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _table(rows: Rows, schema: pa.Schema) -> pa.Table:
    if not rows:
        return schema.empty_table()
    columns = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_fixed_size_list(field.type):
            flat = np.concatenate([row[field.name] for row in rows])
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(flat), field.type.list_size))
        elif pa.types.is_string(field.type):
            columns.append(pa.array([None if value is None else _cell(value) for value in values], field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _ignore(_: object) -> None:
    """Ignores a number of bytes."""
