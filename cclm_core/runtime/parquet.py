"""The one reader of the Parquet files that stages write. Whatever is wrong with one becomes an `ArtifactError`.

```
count_row_groups(path, schema)            how many row groups a file has
read_row_group(path, number, schema)      one of them
read_row_groups(path, schema)             all of them, one at a time
read_parquet(path, schema)                all of them as one table
```

Every function takes the schema of the writer. Names, types and sizes are compared with it before values are read, and
the values are validated in full before anything uses them: a flipped byte in a Parquet file can otherwise surface as an
error of Arrow far away, or as a text that is not UTF-8.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.files import StrPath, as_path

MAX_GROUP_BYTES = 1 << 30
"""The uncompressed size of a row group, the unit that is held in memory. Stages write groups of a few MB."""

_REMEDY = "Delete the folder, then run `dvc checkout` or the stage that creates it."
# Whatever Arrow raises for a damaged file.
_RAISED = (pa.ArrowException, OSError, ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def count_row_groups(path: StrPath, schema: pa.Schema) -> int:
    """The number of row groups in a file.

    Args:
        path: the file.
        schema: the columns that it must have; others are ignored.

    Raises:
        ArtifactError: the file is missing, damaged or too large, or a column is missing or has another type.
    """
    with _opened(path, schema) as file:
        return int(file.num_row_groups)


def read_row_group(path: StrPath, number: int, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads row group `number`; `columns` None for all of `schema`. Raises like `count_row_groups`."""
    with _opened(path, schema) as file:
        return _read(file, number, schema, columns)


def read_row_groups(path: StrPath, schema: pa.Schema, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yields the row groups in order; `columns` None for all of `schema`. Raises like `count_row_groups`."""
    for number in range(count_row_groups(path, schema)):
        yield read_row_group(path, number, schema, columns)


def read_parquet(path: StrPath, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a whole file; `columns` None for all of `schema`. Raises like `count_row_groups`."""
    empty = schema.empty_table().select(list(columns or schema.names))
    return pa.concat_tables([*read_row_groups(path, schema, columns), empty])


@contextmanager
def _opened(path: StrPath, schema: pa.Schema) -> Iterator[Any]:
    path = as_path(path)
    if not path.is_file():
        raise ArtifactError(f"{path} not found. Run the stage that creates it.")
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            _check_schema(file, schema)
            yield file
    except ArtifactError:
        raise
    except _RAISED as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0].rstrip(".")
        raise ArtifactError(f"{path} is damaged: {reason:.200}. {_REMEDY}") from None


def _check_schema(file: Any, schema: pa.Schema) -> None:
    """Compares names, types and sizes without reading a value."""
    given = file.schema_arrow
    for field in schema:
        number = given.names.count(field.name)
        if number != 1:
            raise ValueError(f"it must have one column {field.name}, got {number}")
        if not given.field(field.name).type.equals(field.type):
            raise ValueError(f"column {field.name} must be {field.type}, got {given.field(field.name).type}")
    for number in range(file.num_row_groups):
        size = file.metadata.row_group(number).total_byte_size
        if not 0 <= size <= MAX_GROUP_BYTES:
            raise ValueError(f"row group {number} must have at most {MAX_GROUP_BYTES:,} bytes, got {size:,}")


def _read(file: Any, number: int, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    table = file.read_row_group(number, columns=list(columns or schema.names), use_threads=False)
    table.validate(full=True)
    for name in table.column_names:
        if not schema.field(name).nullable and table.column(name).null_count:
            raise ValueError(f"column {name} must have no missing value, got {table.column(name).null_count}")
        for chunk in table.column(name).chunks:
            _check_inner_values(chunk, name)
    return table


def _check_inner_values(array: Any, name: str) -> None:
    """Refuses missing values inside lists, such as an entity without a start."""
    if pa.types.is_list(array.type):
        inner = array.flatten()
        parts = inner.flatten() if pa.types.is_struct(inner.type) else []
        if inner.null_count or any(part.null_count for part in parts):
            raise ValueError(f"column {name} has missing values inside its lists")
