"""Which columns of a table hold what, and how a row becomes a record; shared by all sources that have columns."""

from collections.abc import Mapping
from typing import Any

from cclm_core.config import Config
from cclm_core.text.quarantine import Located, Rejected
from cclm_core.text.records import Entity, Record


class Columns(Config):
    """Names of columns (of JSON keys, for JSONL).

    Args:
        text: the text; a row without one is rejected.
        id: unique per record; None numbers the records by file and line.
        author, group, variant, label: see `Record`; None where there is no such column.
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
        """The columns that must be there."""
        return [name for name in self.model_dump().values() if name is not None]


def row_record(row: Mapping[str, Any], columns: Columns, file: str, line: int, group: str | None) -> Located | Rejected:
    """A record from one row of `file`, or why there is none.

    Args:
        group: the record's group where no column holds it.
    """
    text = row.get(columns.text)
    excerpt = text if isinstance(text, str) else str(row)
    if columns.text not in row:
        return Rejected(file, line, f"no column `{columns.text}`", excerpt)
    if not isinstance(text, str):
        return Rejected(file, line, "text is not a string", excerpt)
    spans = _entities(row.get(columns.entities)) if columns.entities else ()
    if spans is None:
        return Rejected(file, line, "entities are not spans", excerpt)
    record = Record(
        id=_value(row, columns.id) or f"{file}:{line}",
        text=text,
        author=_value(row, columns.author),
        group=_value(row, columns.group) or group,
        variant=_value(row, columns.variant),
        label=_value(row, columns.label),
        entities=spans,
    )
    return Located(record, file, line)


def _value(row: Mapping[str, Any], column: str | None) -> str | None:
    value = row.get(column) if column else None
    return None if value is None or value == "" else str(value)


def _entities(value: Any) -> tuple[Entity, ...] | None:
    """The spans, sorted; None when `value` is something else than a list of spans."""
    spans = []
    for item in value if isinstance(value, list | tuple) else () if value is None else (value,):
        parts = [item.get(key) for key in Entity._fields] if isinstance(item, Mapping) else item
        match parts:
            case [int(start), int(end), str(label)]:
                spans.append(Entity(start, end, label))
            case _:
                return None
    return tuple(sorted(spans))
