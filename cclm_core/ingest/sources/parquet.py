"""Reads Parquet files by row group, in batches whose size is bounded before they are allocated.

Files written by the library `datasets` have the names of classes in their metadata: numbers become these names.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.base import BATCH_RECORDS
from cclm_core.ingest.sources.columns import Columns, check_columns
from cclm_core.ingest.sources.saved import class_names
from cclm_core.ingest.sources.tables import Slice, plain_type, safe_slices
from cclm_core.runtime.errors import CclmError, DataError

_WHOLE_BATCHES = 256 << 20  # a row group of at most this many bytes is read in batches of BATCH_RECORDS
_DATASETS_KEY, _LONGEST_NAME = b"huggingface", 1000
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
    line, names = 1, None
    for batch in _batches(path, name, columns):
        names = _class_names(path, name) if names is None else names
        for item in safe_slices(batch, name, line, columns.text):
            if names and isinstance(item, Slice):
                yield item._replace(batch=_with_names(item.batch, names, name))
            else:
                yield item
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


def _class_names(path: Path, name: str) -> dict[str, list[str]]:
    """Column -> the names of its classes, from the metadata that the library `datasets` writes."""
    schema = pq.read_schema(path)
    metadata = (schema.metadata or {}).get(_DATASETS_KEY)
    if metadata is None:
        return {}
    try:
        about = json.loads(metadata)
        info = about.get("info") if isinstance(about, Mapping) else None
        names = class_names(info.get("features") if isinstance(info, Mapping) else None)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: the metadata of `datasets` are damaged: {error}. Write the file again.") from None
    if long := next((each for classes in names.values() for each in classes if len(each) > _LONGEST_NAME), None):
        raise DataError(f"{name}: the name of a class must have at most {_LONGEST_NAME} characters, got {long:.80}...")
    return {column: classes for column, classes in names.items() if _has_numbers(schema, column)}


def _has_numbers(schema: pa.Schema, column: str) -> bool:
    """Whether a column holds integers or lists of them; its values may have been changed after `datasets`."""
    index = schema.get_field_index(column)
    kind = schema.field(index).type if index >= 0 else pa.null()
    while pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind))


def _with_names(batch: pa.RecordBatch, names: Mapping[str, Sequence[str]], title: str) -> pa.RecordBatch:
    """The batch with the names of classes instead of their numbers."""
    columns = [
        pa.array([_class_name(value, names[column], title) for value in values.to_pylist()])
        if column in names
        else values
        for column, values in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _class_name(value: Any, names: Sequence[str], title: str) -> Any:
    """The name of a class, or a list of names for a list of numbers; None for no class."""
    if isinstance(value, list):
        return [_class_name(item, names, title) for item in value]
    if value is None or value == -1:  # the library's number for no class
        return None
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise DataError(f"{title}: {value!r:.80} is not the number of one of {len(names)} classes. Write it again.")
    return names[value]


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
