"""Reads what a text is labeled with from the cells of its row: labels, a number, tokens and tags, slices."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from cclm_core.corpus.records import Entity
from cclm_core.ingest.sources.columns import field_value
from cclm_core.ingest.sources.conll import is_tag, tagged_entities
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.readers import parse_json

_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")


class UnusableError(Exception):
    """A row that cannot be used; the message is the reason, a fixed text per kind of fault."""


def label_list(value: Any, separator: str | None) -> tuple[str, ...]:
    """Returns the labels of a cell, sorted and without repeats; none for null, NaN and white space.

    Args:
        value: a list, a text that is a JSON list, or a text with separators.
        separator: the separator, or None.

    Raises:
        UnusableError: it is something else.

    >>> label_list("late; broken", ";"), label_list(["b", "a", "b"], None), label_list('["a"]', None)
    (('broken', 'late'), ('a', 'b'), ('a',))
    """
    if isinstance(value, str) and separator is not None:
        value = [part.strip() for part in value.split(separator) if part.strip()]
    elif isinstance(value, str) and value.strip():
        value = _json_list(value, "labels are not a list; set `label_separator`")
    elif not isinstance(value, list):
        if _value(value, "labels are not a list; set `label_separator`") is not None:
            raise UnusableError("labels are not a list; set `label_separator`")
        value = []
    labels = [_value(item, "a label is not a text or a number") for item in value]
    if None in labels:
        raise UnusableError("empty label")
    return tuple(sorted({label for label in labels if label is not None}))


def indicated_labels(cells: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns that have 1 or true, sorted.

    Raises:
        UnusableError: a cell is something else than 0, 1, true, false, yes or no.

    >>> indicated_labels({"late": "1", "broken": False}, ["late", "broken"])
    ('late',)
    """
    labels = []
    for column in columns:
        value = (_value(cells.get(column), f"`{column}` is not 0 or 1") or "").strip().lower()
        if value not in _TRUE + _FALSE:
            raise UnusableError(f"`{column}` is not 0 or 1")
        if value in _TRUE:
            labels.append(column)
    return tuple(sorted(labels))


def number(value: Any) -> float:
    """Returns a finite number.

    Raises:
        UnusableError: it is missing, NaN, infinite, or not a number.

    >>> number("3.5"), number(2)
    (3.5, 2.0)
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UnusableError("no target")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise UnusableError("target is not a number")
    if isinstance(value, str) and "_" in value:  # Python reads 1_000
        raise UnusableError("target is not a number")
    try:
        result = float(value)
    except (ValueError, OverflowError):
        raise UnusableError("target is not a number") from None
    if math.isnan(result):
        raise UnusableError("target is NaN")
    if math.isinf(result):
        raise UnusableError("target is infinite")
    return result


def string_list(value: Any, name: str) -> list[Any]:
    """Returns the items of a list, of a JSON list as text, or the parts of a text between spaces.

    Raises:
        UnusableError: it is something else.

    >>> string_list("New York", "tokens"), string_list('["New York"]', "tokens")
    (['New', 'York'], ['New York'])
    """
    if isinstance(value, str):
        return _json_list(value, f"{name} are not a list") if value.lstrip().startswith('["') else value.split()
    if not isinstance(value, list):
        raise UnusableError(f"{name} are not a list")
    return value


def tag_list(value: Any, names: Sequence[str]) -> list[str]:
    """Returns tags as texts.

    Args:
        value: see `string_list`; tags, or their numbers.
        names: the names of the tags 0, 1, …; empty if tags are not numbers.

    Raises:
        UnusableError: it is no list, or an item is not a tag or the number of one.

    >>> tag_list([0, 1], ["O", "B-PER"])
    ['O', 'B-PER']
    """
    tags = string_list(value, "tags")
    if isinstance(value, str) and names and all(isinstance(tag, str) and tag.isdecimal() for tag in tags):
        tags = [int(tag) for tag in tags]
    result = []
    for tag in tags:
        if isinstance(tag, str):
            result.append(tag)
        elif isinstance(tag, bool) or not isinstance(tag, int):
            raise UnusableError("a tag is not a text")
        elif not names:
            raise UnusableError("tags are numbers; set `tag_names`")
        elif not 0 <= tag < len(names):
            raise UnusableError("a tag is not the number of one of `tag_names`")
        else:
            result.append(names[tag])
    return result


def sentence(
    tokens: Sequence[Any], tags: Sequence[str], is_bare: bool, separator: str
) -> tuple[str, tuple[Entity, ...], tuple[tuple[int, int], ...]]:
    """Returns the text of N tokens, its entities, and the N spans of its words.

    Args:
        tokens: N words.
        tags: N tags.
        is_bare: whether the tags are bare labels.
        separator: the text between two words.

    Raises:
        UnusableError: a token is empty or not a text, the numbers differ, or a tag is of no known scheme.

    >>> sentence(["In", "York"], ["O", "B-LOC"], is_bare=False, separator=" ")
    ('In York', (Entity(start=3, end=7, label='LOC'),), ((0, 2), (3, 7)))
    """
    if len(tokens) != len(tags):
        raise UnusableError("tokens and tags differ in number")
    if not all(isinstance(token, str) for token in tokens):
        raise UnusableError("a token is not a text")
    if not all(token.strip() for token in tokens):
        raise UnusableError("empty token")
    if not all(is_tag(tag, "io" if is_bare else "iob") for tag in tags):
        raise UnusableError("unknown tag")
    words, position = [], 0
    for token in tokens:
        words.append((position, position + len(token)))
        position += len(token) + len(separator)
    entities = tagged_entities(tokens, tags, "io" if is_bare else "iob", separator)
    return separator.join(tokens), entities, tuple(words)


def slice_values(cells: Mapping[str, Any], columns: Sequence[str]) -> dict[str, str]:
    """Returns the values of the slice columns as texts, without missing ones.

    Raises:
        UnusableError: a value is a list or an object.
    """
    values = {column: _value(cells.get(column), f"`{column}` is not a text or a number") for column in columns}
    return {column: value for column, value in values.items() if value is not None}


def _value(value: Any, reason: str) -> str | None:
    try:
        return field_value(value)
    except TypeError:
        raise UnusableError(reason) from None


def _json_list(text: str, reason: str) -> list[Any]:
    try:
        value = parse_json(text, "cell", DataError)
    except DataError:
        raise UnusableError(reason) from None
    if not isinstance(value, list):
        raise UnusableError(reason)
    return value
