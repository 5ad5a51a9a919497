"""Cuts record batches of unknown origin into small ones that are safe to read.

Arrow trusts what it reads: a damaged offset is followed, and a dictionary multiplies one value by its rows. So sizes
are computed first, from lengths alone. Rows above a limit are rejected, the others are cut to `BATCH_BYTES`, and only
then are dictionaries expanded and the result validated in full, as Arrow's security model requires.

Source: https://arrow.apache.org/docs/format/Security.html
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.base import BATCH_BYTES
from cclm_core.ingest.sources.lines import LONGEST_LINE
from cclm_core.runtime.errors import DataError

Sizes = npt.NDArray[np.int64]

_TOO_LARGE = f"row larger than {LONGEST_LINE} bytes"
_FIXED = 16  # bytes of a number, a null or an empty value, roughly
_EXCERPT = 200


class Slice(NamedTuple):
    """Consecutive rows that are valid, of at most `BATCH_BYTES` or a single row; `line` is the first, from 1."""

    batch: pa.RecordBatch
    line: int


def safe_slices(batch: pa.RecordBatch, name: str, line: int, text_column: str) -> Iterator[Slice | Rejected]:
    """Yields the rows of a batch in order: those that can be read, and a rejection for each other one.

    Args:
        batch: rows as a file gave them; may be invalid.
        name: name of the file, in rejections and messages.
        line: number of the first row, from 1.
        text_column: the column for the excerpts of rejections.

    Raises:
        DataError: the batch is damaged, or a column has a type that cannot be read.
    """
    try:
        batch.validate()
        sizes = sum((_row_bytes(column) for column in batch.columns), np.zeros(batch.num_rows, dtype=np.int64))
    except (pa.ArrowException, IndexError) as error:
        raise DataError(f"{name} is damaged: {error}. Write or download it again.") from None
    begin = 0
    while begin < batch.num_rows:
        if sizes[begin] > LONGEST_LINE:
            yield Rejected(name, line + begin, _TOO_LARGE, "")
            begin += 1
            continue
        totals = np.cumsum(sizes[begin:])
        end = begin + max(1, int(np.searchsorted(totals, BATCH_BYTES, side="right")))
        yield from _validated(batch.slice(begin, end - begin), name, line + begin, text_column)
        begin = end


def plain_type(kind: pa.DataType, name: str) -> pa.DataType:
    """Returns a type without dictionaries, also inside lists and structs.

    Raises:
        DataError: it is, or contains, a type that no field of a record has, such as a map or a union.
    """
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type, name)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = kind.value_field.with_type(plain_type(kind.value_type, name))
        return pa.list_(item) if pa.types.is_list(kind) else pa.large_list(item)
    if pa.types.is_struct(kind):
        return pa.struct([part.with_type(plain_type(part.type, name)) for part in kind.fields])
    if _is_bytes(kind) or pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind):
        return kind
    raise DataError(f"a column of {name} has the type {kind}, which cannot be read. Set ingest.source.columns.")


def _validated(batch: pa.RecordBatch, name: str, line: int, text_column: str) -> Iterator[Slice | Rejected]:
    """Yields the rows without dictionaries; row by row if one of them is invalid."""
    try:
        columns = [column.cast(plain_type(column.type, name)) for column in batch.columns]
        plain = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        plain.validate(full=True)
    except (pa.ArrowException, IndexError, UnicodeError) as error:
        if batch.num_rows > 1:
            for index in range(batch.num_rows):
                yield from _validated(batch.slice(index, 1), name, line + index, text_column)
        elif "UTF8" in str(error).replace("-", "").upper():
            yield Rejected(name, line, "invalid UTF-8", _excerpt(batch, text_column))
        else:
            raise DataError(f"row {line} of {name} is damaged: {error}. Write or download the file again.") from None
        return
    yield Slice(plain, line)


def _excerpt(batch: pa.RecordBatch, text_column: str) -> str:
    """Returns the beginning of the text of a single row; empty if that column is damaged, too."""
    try:
        column = batch.column(text_column)
        column = column.cast(plain_type(column.type, text_column)).cast(pa.large_binary())
        column.validate(full=True)
        value: Any = column[0].as_py()
    except (pa.ArrowException, IndexError, KeyError, DataError):
        return ""
    return (value or b"")[:_EXCERPT].decode("utf-8", "backslashreplace")


def _row_bytes(array: Any) -> Sizes:
    """Returns an upper bound of the size (N,) of each of N rows, from the lengths alone.

    Raises:
        IndexError: an offset or the index of a dictionary is outside its values.
    """
    kind = array.type
    if pa.types.is_dictionary(kind):
        values = np.append(_row_bytes(array.dictionary), _FIXED)  # the last one is for null
        return _take(values, pc.fill_null(array.indices.cast(pa.int64()), len(values) - 1))
    if _is_bytes(kind):
        return _numbers(pc.fill_null(pc.binary_length(array), 0)) + _FIXED
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        ends = np.concatenate([[0], np.cumsum(_row_bytes(array.values))])
        offsets = _take(ends, array.offsets)
        return offsets[1:] - offsets[:-1] + _FIXED
    size = np.full(len(array), _FIXED, dtype=np.int64)
    if pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            size += _row_bytes(array.field(index))
    return size


def _take(values: Sizes, indices: Any) -> Sizes:
    positions = _numbers(indices)
    if len(positions) and not 0 <= int(positions.min()) <= int(positions.max()) < len(values):
        raise IndexError("an offset is outside its values")
    return values[positions]


def _numbers(array: Any) -> Sizes:
    numbers: Sizes = array.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    )
