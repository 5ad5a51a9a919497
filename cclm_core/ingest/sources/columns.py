"""Maps the columns of a table to the fields of a record; used by all sources with columns."""

from collections.abc import Callable, Mapping
from typing import Any

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Entity, Record
from cclm_core.runtime.config import Config


class Columns(Config):
    """The column (in JSON lines, the key) of each field of a record; None for no column.

    Args:
        text: the text; a row without a text is rejected.
        id: an id that is unique in the corpus; with None, ids are `file:line`.
        author, group, variant, label: see `Record`.
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
        return [name for name in self.model_dump().values() if name is not None]


def row_reader(
    columns: Columns, file: str, group: str | None
) -> Callable[[Mapping[str, Any], int], Located | Rejected]:
    """Returns a function that turns a row and its line into a record or a rejection.

    Args:
        columns: the columns, resolved once here because a corpus has millions of rows.
        file: name of the file, for ids and rejections.
        group: group of the records that have none in a column.
    """
    text_column, id_column, spans_column = columns.text, columns.id, columns.entities
    optional_columns = [
        (field, column)
        for field in ("author", "group", "variant", "label")
        if (column := getattr(columns, field)) is not None
    ]

    def read_row(row: Mapping[str, Any], line: int) -> Located | Rejected:
        """Returns the record of a row, or the reason to reject it."""
        text = row.get(text_column)
        if not isinstance(text, str):
            if text_column not in row:
                return Rejected(file, line, f"no column `{text_column}`", str(row))
            return Rejected(file, line, "text is not a string", str(row))
        spans = _entities(row.get(spans_column)) if spans_column else ()
        if spans is None:
            return Rejected(file, line, "entities are not spans", text)
        name = (_value(row, id_column) if id_column else None) or f"{file}:{line}"
        if not optional_columns:
            return Located(Record(name, text, None, group, None, None, spans), file, line)
        values = {field: _value(row, column) for field, column in optional_columns}
        group_of_row = values.get("group") or group
        record = Record(
            name, text, values.get("author"), group_of_row, values.get("variant"), values.get("label"), spans
        )
        return Located(record, file, line)

    return read_row


def _value(row: Mapping[str, Any], column: str) -> str | None:
    value = row.get(column)
    return None if value is None or value == "" else str(value)


def _entities(value: Any) -> tuple[Entity, ...] | None:
    """Returns the spans, sorted; None if `value` is not a list of spans."""
    spans = []
    for item in value if isinstance(value, list | tuple) else () if value is None else (value,):
        parts = [item.get(key) for key in Entity._fields] if isinstance(item, Mapping) else item
        match parts:
            case [int(start), int(end), str(label)]:
                spans.append(Entity(start, end, label))
            case _:
                return None
    return tuple(sorted(spans))
