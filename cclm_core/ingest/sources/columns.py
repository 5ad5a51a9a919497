"""Maps the columns of a table to the fields of a record; used by all sources with columns."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Entity, Record
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import DataError

_MAX_LISTED = 20  # names listed in an error
_EXCERPT = 200


class Columns(Config):
    """The column (in JSON lines, the key) of each field of a record; None for no column.

    Args:
        text: the text; a row without a text is rejected.
        id: an id that is unique in the corpus; with None, ids are `file:line`.
        author, group, variant, label: see `Record`. A number is written as text, 1.0 like 1; null, NaN and white space
            are no value; a row with a list or an object there is rejected.
        entities: a list of spans, each `{"start", "end", "label"}` or `[start, end, label]`, in characters.
    """

    text: str = "text"
    id: str | None = None
    author: str | None = None
    group: str | None = None
    variant: str | None = None
    label: str | None = None
    entities: str | None = None

    def names(self) -> list[str]:
        """Returns the columns that must exist."""
        return list(dict.fromkeys(name for name in self.model_dump().values() if name is not None))

    def reader(self, file: str, group: str | None) -> "RowReader":
        """Returns a function that turns a row and its line into a record or a rejection; see `row_reader`."""
        return row_reader(self, file, group)


RowReader = Callable[[Mapping[str, Any], int], Located | Rejected]
"""Turns a row and its line into a record or a rejection."""


def check_columns(available: Sequence[str], columns: Columns, source: str, remedy: str = "") -> None:
    """Checks that each configured column exists once.

    Args:
        available: the names of all columns.
        columns: the configured ones.
        source: the name of the file or dataset.
        remedy: one more sentence for a missing column.

    Raises:
        DataError: a column is missing (with the nearest name), or two have its name.
    """
    for name in columns.names():
        if (count := available.count(name)) > 1:
            raise DataError(f"{source} must have one column `{name}`, but {count} have that name. Rename the others.")
        if not count:
            raise DataError(
                f"column `{name}` not found in {source}; it has {listed(available)}. "
                f"{did_you_mean(name, available)}Set ingest.source.columns.{remedy}"
            )


def listed(names: Sequence[str]) -> str:
    """Returns the names, separated by commas and without control characters; the first 20 if there are more."""
    rest = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return (", ".join(map(_printable, names[:_MAX_LISTED])) or "none") + rest


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Returns a sentence with the known name that is nearest to `name`, and a space; empty if none is near.

    >>> did_you_mean("lable", ["text", "label"])
    'Did you mean `label`? '
    """
    close = difflib.get_close_matches(name, known, n=1) or [one for one in known if one.strip().lower() == name.lower()]
    return f"Did you mean `{_printable(close[0])}`? " if close else ""


def _printable(name: str) -> str:
    return name[:100] if name.isprintable() else repr(name[:100])


def row_reader(columns: Columns, file: str, group: str | None) -> RowReader:
    """Returns a function that turns a row and its line into a record or a rejection.

    Args:
        columns: the columns, resolved once here because a corpus has millions of rows.
        file: name of the file, for ids and rejections.
        group: group of the records that have none in a column.
    """
    text_column, spans_column = columns.text, columns.entities
    value_columns = [
        (field, column)
        for field in ("id", "author", "group", "variant", "label")
        if (column := getattr(columns, field)) is not None
    ]

    def read_row(row: Mapping[str, Any], line: int) -> Located | Rejected:
        """Returns the record of a row, or the reason to reject it."""
        text = row.get(text_column)
        if not isinstance(text, str):
            reason = "text is not a string" if text_column in row else f"no column `{text_column}`"
            return Rejected(file, line, reason, _excerpt(row))
        spans = _entities(row.get(spans_column)) if spans_column else ()
        if spans is None:
            return Rejected(file, line, "entities are not spans", text)
        if not value_columns:
            return Located(Record(f"{file}:{line}", text, None, group, None, None, spans), file, line)
        values: dict[str, str | None] = {}
        for field, column in value_columns:
            try:
                values[field] = field_value(row.get(column))
            except TypeError:
                return Rejected(file, line, f"{field} is not a text or a number", text)
        record = Record(
            values.get("id") or f"{file}:{line}",
            text,
            values.get("author"),
            values.get("group") or group,
            values.get("variant"),
            values.get("label"),
            spans,
        )
        return Located(record, file, line)

    return read_row


def field_value(value: Any) -> str | None:
    """Returns a cell as the value of a field; None for null, NaN and white space.

    Raises:
        TypeError: it is a list, an object, bytes, or infinite.

    >>> [field_value(value) for value in ("x", 1, 1.0, 0.5, True, float("nan"), None, " ")]
    ['x', '1', '1', '0.5', 'true', None, None, None]
    """
    if isinstance(value, str):
        return None if not value or value.isspace() else value
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise TypeError(value)
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
    if isinstance(value, Decimal) and value.is_nan():
        return None
    if isinstance(value, int | Decimal | date | datetime | time):
        return str(value)
    raise TypeError(type(value).__name__)


def _excerpt(row: Mapping[str, Any]) -> str:
    try:
        return str(row)[:_EXCERPT]
    except (RecursionError, ValueError):  # nested too deeply, or a number with too many digits
        return ""


def _entities(value: Any) -> tuple[Entity, ...] | None:
    """Returns the spans, sorted; None if `value` is not a list of spans."""
    if isinstance(value, Mapping) and any(isinstance(value.get(key), list) for key in Entity._fields):
        value = _transposed(value)  # how `datasets` stores a `Sequence` of spans
    spans = []
    for item in value if isinstance(value, list | tuple) else () if value is None else (value,):
        parts = [item.get(key) for key in Entity._fields] if isinstance(item, Mapping) else item
        match parts:
            case [int(start), int(end), str(label)] if not isinstance(start, bool) and not isinstance(end, bool):
                spans.append(Entity(start, end, label))
            case _:
                return None
    return tuple(sorted(spans))


def _transposed(value: Mapping[str, Any]) -> Any:
    """Returns `{"start": [0], "end": [3], "label": ["P"]}` as `[(0, 3, "P")]`; unchanged unless it has that shape."""
    lists = [value.get(key) for key in Entity._fields]
    same_length = all(isinstance(part, list) and len(part) == len(lists[0] or []) for part in lists)
    return list(zip(*lists, strict=True)) if same_length else value
