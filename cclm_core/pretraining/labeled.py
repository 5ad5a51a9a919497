"""Reads the labeled texts that `EntityPretrainer.fit` receives, in any of the usual forms.

```
Record(...)                                           with `entities`
("Viola loves Orsino", [(0, 5, "PER"), (12, 18, "PER")])
{"text": "Viola loves Orsino", "entities": [{"start": 0, "end": 5, "label": "PER"}]}
{"tokens": ["Viola", "loves"], "ner_tags": ["B-PER", "O"]}
```

The last two are also the rows of a `datasets.Dataset`, a pandas DataFrame or an Arrow table. Tags follow IOB1, IOB2
(BIO), IOBES or BILOU. Numbers are names of a `ClassLabel`, or of `tag_names`. The text of tokens is joined by spaces.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cclm_core.corpus.records import Entity, Record, fault
from cclm_core.ingest.sources.conll import tagged_entities
from cclm_core.pretraining.texts import Read, refuse_iterators
from cclm_core.runtime.errors import DataError

_TAG = re.compile(r"O|[BIELSU]-\S.*")
_TEXT_COLUMNS = ("text", "tokens")
_LABEL_COLUMNS = ("entities", "spans", "ner_tags", "tags")
_EXCERPT = 80  # characters of a value in a message


@dataclass(frozen=True)
class LabelColumns:
    """Where rows have their texts and labels.

    Attributes:
        text: column of texts or of lists of tokens; None for `text` or `tokens`.
        labels: column of spans, or of a tag for each token; None for `entities`, `spans`, `ner_tags` or `tags`.
        tag_names: names of numbered tags; None for those of the dataset.
    """

    text: str | None = None
    labels: str | None = None
    tag_names: Sequence[str] | None = None


def labeled_records(data: Any, columns: LabelColumns) -> Read:
    """Labeled texts as records with entities. Empty texts are skipped; the module lists the forms of `data`.

    Raises:
        DataError: when read: `data` or one of its rows has another form, or an entity is outside its text, overlaps
            another one or has no label. The message gives the row.
    """

    def read() -> Iterator[Record]:
        """Yields the labeled records; a bad row raises a DataError with its index."""
        refuse_iterators(data)
        named = _with_tag_names(data, columns)
        for number, row in enumerate(_rows(data)):
            try:
                record = _record(number, row, named)
            except DataError as error:
                raise DataError(f"row {number}: {error}") from None
            if record is not None:
                yield record

    return read


def _rows(data: Any) -> Iterable[Any]:
    if isinstance(data, str | bytes):
        raise DataError(f"labeled texts must be a list of pairs (text, spans) or a dataset, got {type(data).__name__}.")
    if isinstance(data, Mapping):
        if hasattr(data, "column_names"):
            raise DataError(f"labeled texts must be one dataset, got several splits. Choose one of {sorted(data)}.")
        return _zipped(data)
    if hasattr(data, "to_pylist"):  # an Arrow table
        return data.to_pylist()  # type: ignore[no-any-return]
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a DataFrame
        return data.to_dict("records")  # type: ignore[no-any-return]
    if not isinstance(data, Iterable):
        raise DataError(f"labeled texts must be a list of pairs (text, spans) or a dataset, got {type(data).__name__}.")
    return data


def _zipped(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a mapping of column names to lists."""
    lengths = {name: len(column) if isinstance(column, Sequence) else None for name, column in table.items()}
    if None in lengths.values() or len(set(lengths.values())) > 1:
        raise DataError(f"a mapping must map column names to lists of equal length, got lengths {lengths}.")
    for values in zip(*table.values(), strict=True):
        yield dict(zip(table, values, strict=True))


def _with_tag_names(data: Any, columns: LabelColumns) -> LabelColumns:
    """Adds the tag names of a dataset, unless some are given."""
    if columns.tag_names is not None:
        return columns
    features = getattr(data, "features", None) or {}
    for name in _LABEL_COLUMNS if columns.labels is None else (columns.labels,):
        feature = features.get(name)
        names = getattr(getattr(feature, "feature", None), "names", None)
        if names:
            return LabelColumns(columns.text, name, tuple(names))
    return columns


def _record(number: int, row: Any, columns: LabelColumns) -> Record | None:
    """A row as a record; None if its text is empty."""
    match row:
        case Record():
            if row.split != "train":
                raise DataError(
                    f"record {row.id!r} belongs to the split {row.split!r}. Pass the records of the split train, and "
                    "those of the split validation as `validation`."
                )
            text, entities = row.text, list(row.entities)
        case Mapping():
            text, entities = _from_mapping(row, columns)
        case [str(text), spans]:
            entities = _spans(spans)
        case _:
            raise DataError(
                f"a row must be a pair (text, spans), a Record, or a mapping with text and entities, got "
                f"{type(row).__name__}: {_excerpt(row)}."
            )
    if not text:
        if entities:
            raise DataError("the text is empty, but it has entities. Correct the row.")
        return None
    record = Record(str(number), text, entities=tuple(sorted(entities)))
    problem = fault(record)
    if problem is not None and problem != "empty text":  # blank texts are trained on, like every other text
        raise DataError(f"{problem}: {_excerpt(record.entities or text)} in {_excerpt(text)}. Correct the row.")
    return record


def _from_mapping(row: Mapping[Any, Any], columns: LabelColumns) -> tuple[str, list[Entity]]:
    labels_name = _column(row, columns.labels, _LABEL_COLUMNS, "labels")
    labels = row[labels_name]
    is_tagged = columns.text is None and "tokens" in row and any(isinstance(tag, int | str) for tag in labels or ())
    text_name = "tokens" if is_tagged else _column(row, columns.text, _TEXT_COLUMNS, "text")
    text = row[text_name]
    if isinstance(text, str):
        return text, _spans(labels)
    tokens, tags = _items(text, text_name), _items(labels, labels_name)
    for token in tokens:
        if not isinstance(token, str) or not token:
            raise DataError(f"{text_name!r} must be a text or a list of nonempty tokens, got {_excerpt(text)}.")
    if len(tokens) != len(tags):
        raise DataError(f"there must be one tag for each token, got {len(tokens)} tokens and {len(tags)} tags.")
    return " ".join(tokens), list(tagged_entities(tokens, [_tag(tag, columns.tag_names) for tag in tags]))


def _column(row: Mapping[Any, Any], name: str | None, known: Sequence[str], what: str) -> str:
    names = [name] if name is not None else [column for column in known if column in row]
    if not names or names[0] not in row:
        expected = repr(name) if name is not None else " or ".join(map(repr, known))
        argument = "column" if what == "text" else "label_column"
        raise DataError(f"no column {expected} for the {what}, got {sorted(map(str, row))}. Pass `{argument}`.")
    return names[0]


def _items(value: Any, name: str) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise DataError(f"{name!r} must be a list, got {type(value).__name__}: {_excerpt(value)}.")
    return [item.item() if hasattr(item, "item") else item for item in value]  # NumPy's numbers as Python's


def _tag(tag: Any, names: Sequence[str] | None) -> str:
    if isinstance(tag, int) and not isinstance(tag, bool):
        if names is None:
            raise DataError(f"the tag {tag} is a number without a name. Pass `tag_names`, the name of each tag.")
        if not 0 <= tag < len(names):
            raise DataError(f"a tag must be between 0 and {len(names) - 1}, got {tag}. Check `tag_names`.")
        tag = names[tag]
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise DataError(f"a tag must be O, or B, I, E, L, S or U with a label such as B-PER, got {_excerpt(tag)}.")
    return tag


def _spans(value: Any) -> list[Entity]:
    """The spans of a text: triples, or mappings with start, end and label."""
    spans = []
    for item in _items(value if value is not None else (), "entities"):
        parts: Any = [item.get(name) for name in Entity._fields] if isinstance(item, Mapping) else item
        match parts:
            case [start, end, str(label)] if _is_integer(start) and _is_integer(end):
                spans.append(Entity(int(start), int(end), label))
            case _:
                raise DataError(
                    f"an entity must be (start, end, label), with character positions, got {_excerpt(item)}."
                )
    return spans


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _excerpt(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _EXCERPT else shown[:_EXCERPT] + "…"
