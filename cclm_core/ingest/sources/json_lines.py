"""Decodes JSON lines more strictly than `json` does, and checks that the configured keys occur."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.columns import Columns, did_you_mean, listed
from cclm_core.ingest.sources.lines import read_lines
from cclm_core.runtime.errors import DataError

_MAX_KEYS = 1000  # kept for the message


class _RepeatedKeyError(ValueError):
    """An object has a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _RepeatedKeyError
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def decode(line: str) -> dict[str, Any] | str:
    """Returns the object of a line, or the reason why it is none.

    >>> decode('{"text": "a"}'), decode('{"text": "a", "text": "b"}')
    ({'text': 'a'}, 'a key occurs twice')
    """
    try:
        row = _DECODER.decode(line)
    except _RepeatedKeyError:
        return "a key occurs twice"
    except (ValueError, RecursionError):
        return "not JSON"
    return row if isinstance(row, dict) else "not a JSON object"


def check_keys(path: Path, name: str, columns: Columns, encoding: str) -> None:
    """Checks that each configured key occurs in some line. Reads no further than where all of them have occurred.

    Args:
        path: the file.
        name: its name in the message.
        columns: the keys.
        encoding: see `read_lines`.

    Raises:
        DataError: a key occurs in no object of the file, or the file is one JSON array.
    """
    missing = set(columns.names())
    keys: dict[str, None] = {}
    for row in _objects(path, name, encoding):
        missing.difference_update(row)
        if not missing:
            return
        if len(keys) < _MAX_KEYS:
            keys |= dict.fromkeys(row)
    for key in columns.names():
        if keys and key in missing:
            raise DataError(
                f"key `{key}` not found in any line of {name}; its keys are {listed(list(keys))}. "
                f"{did_you_mean(key, list(keys))}Set ingest.source.columns."
            )


def _objects(path: Path, name: str, encoding: str) -> Iterator[dict[str, Any]]:
    is_first = True
    for item in read_lines(path, name, encoding=encoding):
        if isinstance(item, Rejected) or not item[1].strip():
            continue
        if is_first and item[1].strip() == "[":
            raise DataError(
                f"{name} is a JSON array; JSON lines have one object per line. Convert it: `jq -c '.[]' {name}`."
            )
        is_first = False
        if isinstance(row := decode(item[1]), dict):
            yield row
