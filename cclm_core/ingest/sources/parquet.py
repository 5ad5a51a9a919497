"""Reads Parquet files by row group, in batches whose size is bounded before they are allocated."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.base import BATCH_RECORDS
from cclm_core.ingest.sources.columns import Columns, check_columns
from cclm_core.ingest.sources.tables import Slice, plain_type, safe_slices
from cclm_core.runtime.errors import CclmError, DataError

_WHOLE_BATCHES = 256 << 20  # a row group of at most this many bytes is read in batches of BATCH_RECORDS
_MAX_VALUES = 1 << 27  # in a column of a row group; a run of equal numbers takes no space in the file


def read_slices(path: Path, name: str, columns: Columns) -> Iterator[Slice | Rejected]:
    """Yields the rows of the configured columns, in order; reads no other column.

    Args:
        path: the file.
        name: its name in rejections and messages.
        columns: the columns to read.

    Raises:
        DataError: the file is not Parquet or is damaged, or a column is missing, repeated or of another type.
    """
    line = 1
    for batch in _batches(path, name, columns):
        yield from safe_slices(batch, name, line, columns.text)
        line += batch.num_rows


def _batches(path: Path, name: str, columns: Columns) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            check_columns(table.schema_arrow.names, columns, name)
            for column in columns.names():
                plain_type(table.schema_arrow.field(column).type, name)
            leaves = [index for index, leaf in enumerate(_paths(table)) if _is_in(leaf, columns.names())]
            repeated = [_paths(table)[index] for index in leaves if _can_be_dictionary(table.schema.column(index))]
        # Dictionaries are kept as such: expanded, one large value of a small file could fill the memory.
        with pq.ParquetFile(path, pre_buffer=False, read_dictionary=repeated) as table:
            for group in range(table.metadata.num_row_groups):
                yield from table.iter_batches(
                    batch_size=_batch_rows(table.metadata.row_group(group), leaves, name),
                    row_groups=[group],
                    columns=columns.names(),
                    use_threads=False,
                )
    except CclmError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged file makes Arrow raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name} is not a valid Parquet file: {reason}. Check ingest.source.format.") from None


def _batch_rows(group: Any, leaves: list[int], name: str) -> int:
    """Returns the number of rows to read at once, such that no batch is much larger than `_WHOLE_BATCHES`."""
    chunks = [group.column(index) for index in leaves]
    if (values := max(chunk.num_values for chunk in chunks)) > _MAX_VALUES:
        raise DataError(
            f"a row group of {name} must have at most {_MAX_VALUES:,} values in a column, got {values:,}. Write "
            "smaller row groups."
        )
    size: int = sum(max(0, chunk.total_uncompressed_size) for chunk in chunks)
    rows: int = min(BATCH_RECORDS, BATCH_RECORDS * _WHOLE_BATCHES // max(1, size))
    return max(1, rows)


def _paths(table: Any) -> list[str]:
    return [table.schema.column(index).path for index in range(len(table.schema.names))]


def _is_in(path: str, names: list[str]) -> bool:
    return any(path == name or path.startswith(f"{name}.") for name in names)


def _can_be_dictionary(column: Any) -> bool:
    return bool(column.physical_type == "BYTE_ARRAY" and column.logical_type.type != "DECIMAL")


def readable_columns(path: Path, name: str) -> list[str]:
    """Returns the names of the columns of a Parquet file whose types can be read.

    Raises:
        DataError: the file is not Parquet or is damaged.
    """
    try:
        schema = pq.read_schema(path)
    except Exception as error:  # noqa: BLE001  as above
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name} is not a valid Parquet file: {reason}. Check ingest.source.format.") from None
    return [field.name for field in schema if _is_readable(field.type, name)]


def _is_readable(kind: pa.DataType, name: str) -> bool:
    try:
        plain_type(kind, name)
    except DataError:
        return False
    return True
