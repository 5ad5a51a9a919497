"""The columns of labeled data: those of the sources, and a second text, several labels, a number, words and slices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import field_validator, model_validator

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.corpus.records import Record
from cclm_core.ingest.sources.columns import Columns, RowReader, row_reader


class LabeledColumns(Columns):
    """The column (in JSON lines, the key) of each part of a labeled text; None for no column.

    Args:
        text, id, group, label, entities: as for a corpus, see `Columns`.
        second: the second text of a pair.
        labels: for `multilabel`: one column with a list of labels, or with labels between separators; or several
            columns, each named like its label, with 0 or 1, or true or false.
        value: for `regress`: a number.
        tokens, tags: for `tag`: lists of the same length, words and their tags. Instead of a list, a text with spaces
            between the words, or a JSON list as text.
        slices: columns whose values are kept, for figures by slice.
    """

    second: str | None = None
    labels: tuple[str, ...] = ()
    value: str | None = None
    tokens: str | None = None
    tags: str | None = None
    slices: tuple[str, ...] = ()

    @field_validator("labels", "slices", mode="before")
    @classmethod
    def _one_column(cls, columns: Any) -> Any:
        """Accepts one column without a list."""
        return [columns] if isinstance(columns, str) else columns

    @model_validator(mode="before")
    @classmethod
    def _text_of_tokens(cls, values: Any) -> Any:
        """The tokens are the text, so no column `text` is needed."""
        if isinstance(values, Mapping) and values.get("tokens") is not None:
            if values.get("text", values["tokens"]) != values["tokens"]:
                raise ValueError("set one of `text` and `tokens`: the text is the tokens, joined by spaces")
            return {**values, "text": values["tokens"]}
        return values

    @model_validator(mode="after")
    def _tokens_and_tags(self) -> "LabeledColumns":
        if (self.tokens is None) != (self.tags is None):
            raise ValueError("set both `tokens` and `tags`, or none of them")
        if self.tokens is not None and self.entities is not None:
            raise ValueError("set either `entities`, or `tokens` and `tags`")
        return self

    def names(self) -> list[str]:
        """Returns the columns that must exist."""
        values: list[str | None] = []
        for value in self.model_dump().values():
            values += value if isinstance(value, tuple) else [value]
        return list(dict.fromkeys(name for name in values if name is not None))

    def reader(self, file: str, group: str | None) -> RowReader:
        """Returns a function that turns a row and its line into a `RowRecord` or a rejection."""
        read, names = row_reader(self, file, group), self.names()

        def read_row(row: Mapping[str, Any], line: int) -> Located | Rejected:
            """Returns the record of a row with its cells, or the reason to reject it."""
            has_tokens = self.tokens is not None and row.get(self.text) is not None
            item = read({**row, self.text: ""} if has_tokens else row, line)
            if isinstance(item, Rejected):
                return item
            cells = {name: row.get(name) for name in names}
            record = item.record
            return item._replace(
                record=RowRecord(
                    id=record.id,
                    text=record.text,
                    group=record.group,
                    label=record.label,
                    entities=record.entities,
                    cells=cells,
                )
            )

        return read_row


@dataclass(frozen=True, slots=True)
class RowRecord(Record):
    """A record with the cells of all configured columns, by name, as the source has them."""

    cells: Mapping[str, Any] = field(default_factory=dict)
