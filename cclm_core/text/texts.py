"""Texts as a stream: strings from a list, an iterator or a `datasets.Dataset`.

>>> list(strings(["To be,", "or not"]))
['To be,', 'or not']
"""

from collections.abc import Iterable, Iterator
from typing import Any

from cclm_core.runtime.errors import DataError

_CHUNK = 1 << 20  # characters held at once: large enough for NumPy, small beside the table of counts
_ROWS = 1000  # rows of a dataset read at once


def strings(texts: Any, column: str | None = None) -> Iterator[str]:
    """The strings of `texts`, checked one by one; nothing is held but the one that is given.

    Args:
        texts: an iterable of strings, or a `datasets.Dataset` or `IterableDataset`.
        column: which column of a dataset to read; the first that holds strings, if None.

    Raises:
        DataError: something else than strings, several splits at once, or no such column.
    """
    if isinstance(texts, str | bytes):
        raise DataError(f"texts must be an iterable of strings, got one {type(texts).__name__}; put it into a list.")
    is_dataset = hasattr(texts, "column_names")
    if column is not None and not is_dataset:
        raise DataError(f"`column` must be given with a dataset alone, got {column!r} with {type(texts).__name__}.")
    for index, text in enumerate(_column(texts, column) if is_dataset else texts):
        if not isinstance(text, str):
            raise DataError(f"texts must be strings, but number {index} is {type(text).__name__}: {text!r:.80}")
        yield text


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Groups texts so that a group has about a million characters, or one text that is longer."""
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
        raise DataError(f"texts must be one dataset, got several splits; choose one of {sorted(dataset)}.")
    kinds = dataset.features or {}
    if kinds:
        is_string = [name for name, kind in kinds.items() if getattr(kind, "dtype", None) in ("string", "large_string")]
        column = _chosen(column, list(kinds), is_string)
    for batch in dataset.iter(batch_size=_ROWS):
        # A dataset that a generator makes does not know its columns before it is read.
        column = _chosen(column, list(batch), [name for name in batch if isinstance(batch[name][0], str)])
        yield from batch[column]


def _chosen(column: str | None, columns: list[str], of_strings: list[str]) -> str:
    if column is None and not of_strings:
        raise DataError(f"the dataset must have a column of strings, got {sorted(columns)}; name one with `column`.")
    chosen = of_strings[0] if column is None else column
    if chosen not in columns:
        raise DataError(f"the dataset must have a column {chosen!r}, got {sorted(columns)}.")
    return chosen
