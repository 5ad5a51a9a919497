"""Transforms: changes to every text before it enters the corpus.

Entity spans move with their characters. If a span cannot be moved, the record is rejected.

>>> chain = (CollapseWhiteSpace(transform="collapse_white_space"), Strip(transform="strip"))
>>> transformed(Record(id="1", text="  In   York ", entities=(Entity(7, 11, "PLACE"),)), chain)
Record(id='1', text='In York', author=None, group=None, variant=None, label=None, \
entities=(Entity(start=3, end=7, label='PLACE'),), split='train')
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from cclm_core.corpus.records import Entity, Record
from cclm_core.ingest.named import named_function
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import DataError
from cclm_core.text.normalization import Form, aligned, normalize

Starts = npt.NDArray[np.integer[Any]]

_RUN = re.compile(r"\s+")


class TransformConfig(Config):
    """A function from text to text that can map positions back.

    A subclass adds a field `transform`, a literal of its name, and is listed in `Transform`.
    """

    @abstractmethod
    def apply(self, text: str) -> str:
        """Returns the new text."""

    @abstractmethod
    def origins(self, text: str) -> Starts | None:
        """Maps each character of the new text to its origin.

        Returns:
            (N + 1,) non-decreasing: the index in `text` of the origin of each of the N new characters, then
            `len(text)`; None if the origins are unknown.
        """


class Strip(TransformConfig):
    """Removes white space from both ends."""

    transform: Literal["strip"]

    def apply(self, text: str) -> str:
        """Returns the text without white space at its ends."""
        return text.strip()

    def origins(self, text: str) -> Starts:
        """Returns consecutive indices, from the first character that is not white space."""
        begin = len(text) - len(text.lstrip())
        return np.append(np.arange(begin, begin + len(text.strip())), len(text))


class CollapseWhiteSpace(TransformConfig):
    """Replaces every run of white space, including line breaks, with one space."""

    transform: Literal["collapse_white_space"]

    def apply(self, text: str) -> str:
        """Returns the text with single spaces for runs of white space."""
        return _RUN.sub(" ", text)

    def origins(self, text: str) -> Starts:
        """Returns the indices of all characters except the second to last of each run."""
        kept = np.ones(len(text) + 1, dtype=bool)
        for run in _RUN.finditer(text):
            kept[run.start() + 1 : run.end()] = False
        return np.flatnonzero(kept)


class Normalize(TransformConfig):
    """Converts a text to a Unicode normal form."""

    transform: Literal["normalise"]
    form: Form = Field(description="NFC, NFD, NFKC or NFKD")

    def apply(self, text: str) -> str:
        """Returns the normal form of the text."""
        return normalize(text, self.form)

    def origins(self, text: str) -> Starts:
        """Returns, for each new character, the start of the sequence that it was composed from."""
        return aligned(text, self.form).starts


class Replace(TransformConfig):
    """Replaces every match of a regular expression."""

    transform: Literal["replace"]
    pattern: str = Field(description="regular expression, in the syntax of Python's `re`")
    by: str = Field(default="", description="replacement; \\1 inserts the first group of the match")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        return checked_pattern(pattern)

    def apply(self, text: str) -> str:
        """Returns the text with every match replaced."""
        return re.sub(self.pattern, self.by, text)

    def origins(self, text: str) -> Starts:
        """Returns the start of the match for every character of a replacement."""
        origins: list[int] = []
        position = 0
        for match in re.finditer(self.pattern, text):
            origins.extend(range(position, match.start()))
            origins.extend([match.start()] * len(match.expand(self.by)))
            position = match.end()
        return np.array([*origins, *range(position, len(text) + 1)])


class FunctionTransform(TransformConfig):
    """Applies your own function. A record with entities is rejected if the function changes its text."""

    transform: Literal["function"]
    name: str = Field(description="module:function; its code is run")

    def apply(self, text: str) -> str:
        """Returns the result of the function.

        Raises:
            ConfigError: the function cannot be imported.
            DataError: it does not return a str.
        """
        changed = named_function(self.name)(text)
        if not isinstance(changed, str):
            raise DataError(f"the transform {self.name} must return a str, got {type(changed).__name__}.")
        return changed

    def origins(self, text: str) -> None:
        """Returns None: the origins are unknown."""


Transform = Annotated[
    Strip | CollapseWhiteSpace | Normalize | Replace | FunctionTransform, Field(discriminator="transform")
]


def transformed(record: Record, transforms: Sequence[TransformConfig]) -> Record | None:
    """Applies all transforms in order; returns None if an entity span cannot be moved.

    A span cannot be moved if all its characters were removed, or if its edge falls inside characters that were merged
    into one.
    """
    text, entities = record.text, record.entities
    for transform in transforms:
        changed = transform.apply(text)
        if changed == text:
            continue
        if entities:
            origins = transform.origins(text)
            moved = None if origins is None else _move_spans(entities, origins)
            if moved is None:
                return None
            entities = moved
        text = changed
    return record if text is record.text else replace(record, text=text, entities=entities)


def _move_spans(entities: Sequence[Entity], origins: Starts) -> tuple[Entity, ...] | None:
    moved = []
    for start, end, label in entities:
        first, last = np.searchsorted(origins, [start, end]).tolist()
        if first == last:
            return None
        moved.append(Entity(first, last, label))
    return tuple(moved)


def checked_pattern(pattern: str) -> str:
    """Returns the pattern if it is a valid regular expression.

    Raises:
        ValueError: it does not compile.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"invalid regular expression {pattern!r}: {error}") from None
    return pattern
