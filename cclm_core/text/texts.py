"""Streams texts from a list, an iterator or a `datasets.Dataset`.

>>> list(strings(["To be,", "or not"]))
['To be,', 'or not']
"""

from collections.abc import Iterable, Iterator
from typing import Any

from cclm_core.runtime.errors import DataError

_CHUNK = 1 << 20  # characters per chunk: large enough for NumPy, small compared to the table of counts
_ROWS = 1000  # rows of a dataset per read


def strings(texts: Any, column: str | None = None) -> Iterator[str]:
    """Yields the strings of `texts`, checked one by one, without keeping them.

    Args:
        texts: an iterable of strings, a `datasets.Dataset` or an `IterableDataset`.
        column: the column of a dataset; None selects the first column of strings.

    Raises:
        DataError: a text is not a string, the column is missing, or a `DatasetDict` of several splits was passed.
    """
    if isinstance(texts, str | bytes):
        raise DataError(f"texts must be an iterable of strings, got one {type(texts).__name__}. Put it into a list.")
    is_dataset = hasattr(texts, "column_names")
    if column is not None and not is_dataset:
        raise DataError(f"`column` requires a dataset, got {column!r} with {type(texts).__name__}. Omit `column`.")
    for index, text in enumerate(_column(texts, column) if is_dataset else texts):
        if not isinstance(text, str):
            kind = type(text).__name__
            raise DataError(f"texts must be strings, got {kind} at index {index}: {text!r:.80}. Convert it.")
        yield text


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


def _column(dataset: Any, column: str | None) -> Iterator[Any]:
    if isinstance(dataset, dict):
        raise DataError(f"texts must be one dataset, got several splits. Choose one of {sorted(dataset)}.")
    features = dataset.features or {}
    if features:
        types = {name: getattr(feature, "dtype", None) for name, feature in features.items()}
        column = _selected(column, list(types), [name for name in types if types[name] in ("string", "large_string")])
    for batch in dataset.iter(batch_size=_ROWS):
        # A dataset from a generator does not know its columns before the first read.
        column = _selected(column, list(batch), [name for name in batch if isinstance(batch[name][0], str)])
        yield from batch[column]


def _selected(column: str | None, columns: list[str], string_columns: list[str]) -> str:
    if column is None and not string_columns:
        raise DataError(f"the dataset must have a column of strings, got {sorted(columns)}. Pass `column`.")
    name = string_columns[0] if column is None else column
    if name not in columns:
        raise DataError(f"column {name!r} not found in the dataset. Choose one of {sorted(columns)}.")
    return name
