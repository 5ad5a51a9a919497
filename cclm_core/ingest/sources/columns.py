"""The roles of the columns of a table, and how a row becomes a record; shared by all sources with columns."""

from collections.abc import Callable, Mapping
from typing import Any

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Entity, Record
from cclm_core.runtime.config import Config


class Columns(Config):
    """Names of columns (for JSON lines, of keys).

    Args:
        text: the text; a row without one is rejected.
        id: unique per record; None makes ids of file and line.
        author, group, variant, label: see `Record`; None if there is no such column.
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
        """The columns that must exist."""
        return [name for name in self.model_dump().values() if name is not None]


def row_reader(
    columns: Columns, file: str, group: str | None
) -> Callable[[Mapping[str, Any], int], Located | Rejected]:
    """A function from a row of `file` and its line to a record, or to the reason why it is rejected.

    Args:
        columns: resolved once here, since a corpus has millions of rows.
        file: for ids and rejections.
        group: the group of records that have none in a column.
    """
    text_column, id_column, spans_column = columns.text, columns.id, columns.entities
    others = [
        (field, column)
        for field in ("author", "group", "variant", "label")
        if (column := getattr(columns, field)) is not None
    ]

    def read(row: Mapping[str, Any], line: int) -> Located | Rejected:
        text = row.get(text_column)
        if not isinstance(text, str):
            if text_column not in row:
                return Rejected(file, line, f"no column `{text_column}`", str(row))
            return Rejected(file, line, "text is not a string", str(row))
        spans = _entities(row.get(spans_column)) if spans_column else ()
        if spans is None:
            return Rejected(file, line, "entities are not spans", text)
        name = (_value(row, id_column) if id_column else None) or f"{file}:{line}"
        if not others:
            return Located(Record(name, text, None, group, None, None, spans), file, line)
        known = {field: _value(row, column) for field, column in others}
        own = known.get("group") or group
        record = Record(name, text, known.get("author"), own, known.get("variant"), known.get("label"), spans)
        return Located(record, file, line)

    return read


def _value(row: Mapping[str, Any], column: str) -> str | None:
    value = row.get(column)
    return None if value is None or value == "" else str(value)


def _entities(value: Any) -> tuple[Entity, ...] | None:
    """The spans, sorted; None if `value` is not a list of spans."""
    spans = []
    for item in value if isinstance(value, list | tuple) else () if value is None else (value,):
        parts = [item.get(key) for key in Entity._fields] if isinstance(item, Mapping) else item
        match parts:
            case [int(start), int(end), str(label)]:
                spans.append(Entity(start, end, label))
            case _:
                return None
    return tuple(sorted(spans))
