"""The one door for texts: every public function that takes texts reads them here.

Texts are a list, an iterator, a pandas Series, or a column of a table. A table is a `datasets.Dataset`, a pandas
DataFrame, an Arrow table, or a mapping of column names to lists. Anything else is refused, with the index and the type
of the first value that is not a string.

```
strings(texts, column)        the checked strings, as a stream
text_list(texts, column)      the same as a list, for functions that need all of them
check_text(text)              one string
is_table(texts)               whether texts have columns
column_names(table)           the names of the columns
column_values(table, name)    the unchecked values of one column, as a stream
```

>>> list(strings(["To be,", "or not"]))
['To be,', 'or not']
>>> list(strings({"id": [1, 2], "text": ["To be,", "or not"]}))
['To be,', 'or not']
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from cclm_core.runtime.errors import DataError

TEXT = "text"
"""The column that is read if a table has it and no other column is named."""

_CHUNK = 1 << 20  # characters per chunk: large enough for NumPy, small compared to the table of counts
_ROWS = 1000  # rows of a dataset per read
_PEEKED = 100  # values of a column that are searched for a string, to tell columns of strings from others
_STRING_TYPES = ("string", "large_string", "string_view")  # of Arrow and of `datasets`


def strings(texts: Any, column: str | None = None) -> Iterator[str]:
    """Yields the strings of `texts`, checked one by one, without keeping them.

    Args:
        texts: an iterable of strings, or a table: see the module.
        column: the column of a table; None selects `text`, otherwise the only column of strings.

    Raises:
        DataError: a text is not a string; the column is missing or cannot be chosen; a `DatasetDict` of several splits;
            a string, mapping or other object where texts are expected.
    """
    if is_table(texts):
        values: Iterable[Any] = column_values(texts, _selected(texts, column))
    else:
        if column is not None:
            raise DataError(f"`column` requires a dataset, got {column!r} with {type(texts).__name__}. Omit `column`.")
        values = _iterable(texts)
    for index, text in enumerate(values):
        if type(text) is not str:
            text = _string(text, index)
        yield text


def text_list(texts: Any, column: str | None = None) -> list[str]:
    """The strings of `texts` as a list; arguments and errors as in `strings`.

    >>> text_list("abc")
    Traceback (most recent call last):
    cclm_core.runtime.errors.DataError: texts must be an iterable of strings, got one str. Put it into a list.
    """
    return list(strings(texts, column))


def check_text(text: Any, name: str = "text") -> str:
    """Returns `text` if it is a string; `name` is its name in the message.

    Raises:
        DataError: it is not a string.
    """
    if not isinstance(text, str):
        raise DataError(f"`{name}` must be a string, got {type(text).__name__}: {text!r:.80}. Convert it.")
    return str.__str__(text)  # subclasses, such as NumPy's strings, become plain strings


def is_table(texts: Any) -> bool:
    """Whether `texts` have columns: a dataset, a DataFrame, an Arrow table, or a mapping of names to lists."""
    if isinstance(texts, Mapping):
        return bool(texts) and all(_is_column(value) for value in texts.values())
    return hasattr(texts, "column_names") or (hasattr(texts, "columns") and hasattr(texts, "__getitem__"))


def column_names(table: Any) -> list[str]:
    """The names of the columns of a table; empty for a streamed dataset that does not know them before it is read.

    Raises:
        DataError: several splits instead of one dataset, or two columns of one name.
    """
    if isinstance(table, Mapping) and hasattr(table, "column_names"):
        raise DataError(f"texts must be one dataset, got several splits. Choose one of {sorted(table)}.")
    names = [str(name) for name in _keys(table)]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"column names must differ, got {name!r} {names.count(name)} times. Rename one.")
    return names


def column_values(table: Any, column: str) -> Iterator[Any]:
    """Yields the values of one column, unchecked. Reads no other column, so that nothing else has to be decoded."""
    if hasattr(table, "iter") and hasattr(table, "with_format"):  # a dataset of the library `datasets`
        plain = table.with_format(None)
        chosen = plain.select_columns([column]) if plain.column_names else plain
        for batch in chosen.iter(batch_size=_ROWS):
            if column not in batch:
                raise _missing(column, batch)
            yield from batch[column]
        return
    keys = dict(zip(column_names(table), _keys(table), strict=True))
    if column not in keys:
        raise _missing(column, keys)
    values = table[keys[column]]
    yield from values.to_pylist() if hasattr(values, "to_pylist") else values


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Groups texts into chunks of about a million characters; a longer text ends its chunk."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _keys(table: Any) -> list[Any]:
    """The columns of a table as it names them; the names of a DataFrame can be numbers."""
    if isinstance(table, Mapping):
        return list(table)
    names = table.column_names if hasattr(table, "column_names") else table.columns
    return [] if names is None else list(names)


def _iterable(texts: Any) -> Any:
    kind = type(texts).__name__
    if isinstance(texts, str | bytes | bytearray):
        raise DataError(f"texts must be an iterable of strings, got one {kind}. Put it into a list.")
    if isinstance(texts, Mapping):
        raise DataError(
            f"texts must be an iterable of strings or a table, got a {kind} whose values are not lists. Pass "
            "`list(texts.values())`, or a mapping of column names to lists."
        )
    if hasattr(texts, "to_pylist"):  # an Arrow array, which iterates over scalars
        return iter(texts.to_pylist())
    try:
        return iter(texts)
    except TypeError:
        raise DataError(f"texts must be an iterable of strings, got {kind}: {texts!r:.80}. Pass a list.") from None


def _string(text: Any, index: int) -> str:
    if isinstance(text, str):
        return str.__str__(text)
    kind = type(text).__name__
    remedy = "Pass the texts of one column." if isinstance(text, Mapping) else "Convert it."
    raise DataError(f"texts must be strings, got {kind} at index {index}: {text!r:.80}. {remedy}")


def _is_column(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, str | bytes | bytearray | Mapping)


def _selected(table: Any, column: str | None) -> str:
    names = column_names(table)
    if not names and hasattr(table, "iter"):  # a streamed dataset that does not know its columns before it is read
        names = [str(name) for name in next(iter(table), {})]
    if column is not None:
        if column not in names:
            raise _missing(column, names)
        return column
    if TEXT in names:
        return TEXT
    found = [name for name in names if _holds_strings(table, name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"the dataset must have a column of strings, got {sorted(names)}. Pass `column`.")
    raise DataError(
        f"the dataset must have a column `text` or a single column of strings, got {found}. Pass `column`, or pass the "
        f"texts of one column: `texts[{found[0]!r}]`."
    )


def _holds_strings(table: Any, column: str) -> bool:
    """Whether a column holds strings, by its declared type if there is one, otherwise by its first values."""
    declared = (getattr(table, "features", None) or {}).get(column)
    if declared is not None:
        return getattr(declared, "dtype", None) in _STRING_TYPES
    schema = getattr(table, "schema", None)
    if schema is not None and hasattr(schema, "field"):
        kind = schema.field(column).type
        return str(getattr(kind, "value_type", kind)) in _STRING_TYPES and not str(kind).startswith(("list", "large_l"))
    return any(isinstance(value, str) for value in islice(column_values(table, column), _PEEKED))


def _missing(column: str, names: Iterable[str]) -> DataError:
    return DataError(f"column {column!r} not found in the dataset. Choose one of {sorted(names)}.")
