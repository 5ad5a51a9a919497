"""What the cells of a column look like: texts, labels, numbers, lists."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cclm_core.ingest.sources.columns import field_value

_MAX_DISTINCT = 50_000  # values of a column that are counted one by one
_SEPARATORS = (";", "|", ",")
_MAX_CLASSES = 1000
_MAX_LABEL_WORDS = 6
_FEW_NUMBERS = 20  # whole numbers: up to this many different ones can be labels
_DATE = re.compile(r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3\d{2,4})([ T]\d{1,2}:\d{2}\S*( ?[AP]M)?)?")
_TRUTH = frozenset(("0", "1", "true", "false"))


@dataclass
class Profile:
    """The cells of one column.

    Attributes:
        name: the column.
        num_rows, num_filled: rows, and rows with a value.
        lists, span_lists, number_lists: cells that are lists; lists of spans; lists of whole numbers.
        numbers, integers: cells that are numbers; whole numbers.
        characters, words: sums over the cells.
        counts: value -> how often it occurs; the first 50,000 different values.
        items: item of a list -> how often it occurs.
    """

    name: str
    num_rows: int = 0
    num_filled: int = 0
    lists: int = 0
    span_lists: int = 0
    number_lists: int = 0
    numbers: int = 0
    integers: int = 0
    characters: int = 0
    words: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)

    def add(self, value: Any) -> None:
        """Counts a cell."""
        self.num_rows += 1
        if isinstance(value, list | dict):
            self.num_filled += 1
            self.lists += 1
            self._add_list(value)
            return
        try:
            text = field_value(value)
        except TypeError:
            return
        if text is None:
            return
        self.num_filled += 1
        number = _number(text)
        self.numbers += number is not None
        self.integers += number is not None and number.is_integer()
        self.characters += len(text)
        self.words += len(text.split())
        if len(self.counts) < _MAX_DISTINCT or text in self.counts:
            self.counts[text] += 1

    def _add_list(self, value: Any) -> None:
        items = value if isinstance(value, list) else [value]
        self.span_lists += bool(items) and all(_is_span(item) for item in items)
        self.number_lists += bool(items) and all(isinstance(item, int) for item in items)
        for item in items:
            if isinstance(item, str | int) and len(self.items) < _MAX_DISTINCT:
                self.items[str(item)] += 1

    @property
    def is_filled(self) -> bool:
        """Whether most rows have a value."""
        return self.num_filled > 0.5 * self.num_rows

    @property
    def is_list(self) -> bool:
        """Whether most values are lists."""
        return self.lists > 0.5 * max(1, self.num_filled)

    @property
    def is_number(self) -> bool:
        """Whether nearly all values are numbers."""
        return self.num_filled > 0 and self.numbers >= 0.98 * self.num_filled

    @property
    def is_integer(self) -> bool:
        """Whether nearly all values are whole numbers."""
        return self.num_filled > 0 and self.integers >= 0.98 * self.num_filled

    @property
    def is_truth(self) -> bool:
        """Whether all values are 0 or 1, or true or false."""
        return bool(self.counts) and not self.is_list and {value.lower() for value in self.counts} <= _TRUTH

    @property
    def is_date(self) -> bool:
        """Whether nearly all values are dates, with or without a time: 2026-11-28, 28.11.2026 9:30."""
        dates = sum(number for value, number in self.counts.items() if _DATE.fullmatch(value.strip()))
        return bool(self.counts) and dates >= 0.98 * self.counts.total()

    @property
    def mean_characters(self) -> float:
        """Characters per value."""
        return self.characters / max(1, self.num_filled)

    @property
    def mean_words(self) -> float:
        """Words per value."""
        return self.words / max(1, self.num_filled)

    @property
    def is_distinct(self) -> bool:
        """Whether most values occur once."""
        return len(self.counts) > 0.5 * max(1, self.num_filled)

    @property
    def has_classes(self) -> bool:
        """Whether few different values repeat, as labels do."""
        number = len(self.counts)
        return (
            not self.is_list
            and 2 <= number <= min(_MAX_CLASSES, 0.5 * self.num_filled)
            and self.mean_words <= _MAX_LABEL_WORDS
            and (not self.is_number or (self.is_integer and number <= _FEW_NUMBERS))
            and not self.is_date
        )

    @property
    def separator(self) -> str | None:
        """The separator of several labels in a value, such as `a; b`, or None."""
        for separator in _SEPARATORS:
            cells = [[part.strip() for part in value.split(separator)] for value in self.counts]
            several = sum(self.counts[value] for value, parts in zip(self.counts, cells, strict=True) if len(parts) > 1)
            labels = {part for parts in cells for part in parts if part}
            if (
                several >= 0.05 * max(1, self.num_filled)
                and 2 <= len(labels) <= 0.25 * sum(map(len, cells)) + 10
                and len(labels) < len(self.counts) + 1
                and max(len(label.split()) for label in labels) <= _MAX_LABEL_WORDS
            ):
                return separator
        return None


def profiles(rows: Iterable[Mapping[str, Any]]) -> dict[str, Profile]:
    """The profile of every column, by name, in the order of the columns."""
    columns: dict[str, Profile] = {}
    num_rows = 0
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, Profile(name)).add(value)
        num_rows += 1
    for profile in columns.values():  # in JSON lines, a row may lack a key
        profile.num_rows = num_rows
    return columns


def _number(text: str) -> float | None:
    if "_" in text or not text.isascii():
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _is_span(item: Any) -> bool:
    if isinstance(item, Mapping):
        return {"start", "end", "label"} <= set(item)
    return (
        isinstance(item, Sequence)
        and not isinstance(item, str)
        and len(item) == 3
        and isinstance(item[0], int)
        and isinstance(item[1], int)
        and isinstance(item[2], str)
    )
