"""Transforms: changes to every text before it enters the corpus; entity spans move along, or the record is rejected.

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


class TransformConfig(Config):
    """One step from a text to another. A subclass adds a field `transform` with its name and a line in `Transform`."""

    @abstractmethod
    def apply(self, text: str) -> str:
        """The new text."""

    @abstractmethod
    def origins(self, text: str) -> Starts | None:
        """Where each character of the new text came from.

        Returns:
            (N + 1,) not decreasing: for each of the N characters of the new text the index of its origin in `text`, and
            the length of `text`; None if that is unknown.
        """


class Strip(TransformConfig):
    """Removes white space from both ends."""

    transform: Literal["strip"]

    def apply(self, text: str) -> str:
        return text.strip()

    def origins(self, text: str) -> Starts:
        begin = len(text) - len(text.lstrip())
        return np.append(np.arange(begin, begin + len(text.strip())), len(text))


class CollapseWhiteSpace(TransformConfig):
    """Replaces every run of white space, line ends included, by one space."""

    transform: Literal["collapse_white_space"]

    def apply(self, text: str) -> str:
        return _RUN.sub(" ", text)

    def origins(self, text: str) -> Starts:
        kept = np.ones(len(text) + 1, dtype=bool)
        for run in _RUN.finditer(text):
            kept[run.start() + 1 : run.end()] = False
        return np.flatnonzero(kept)


class Normalise(TransformConfig):
    """Brings a text into a Unicode normal form."""

    transform: Literal["normalise"]
    form: Form = Field(description="NFC, NFD, NFKC or NFKD")

    def apply(self, text: str) -> str:
        return normalize(text, self.form)

    def origins(self, text: str) -> Starts:
        return aligned(text, self.form).starts


class Replace(TransformConfig):
    """Replaces every match of a regular expression."""

    transform: Literal["replace"]
    pattern: str = Field(description="regular expression of Python's `re`")
    by: str = Field(default="", description="the replacement; \\1 is the match of the first group")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        return checked_pattern(pattern)

    def apply(self, text: str) -> str:
        return re.sub(self.pattern, self.by, text)

    def origins(self, text: str) -> Starts:
        origins: list[int] = []
        position = 0
        for match in re.finditer(self.pattern, text):
            origins.extend(range(position, match.start()))
            origins.extend([match.start()] * len(match.expand(self.by)))
            position = match.end()
        return np.array([*origins, *range(position, len(text) + 1)])


class OwnTransform(TransformConfig):
    """A function of the user, from text to text; a record with entities whose text it changes is rejected."""

    transform: Literal["function"]
    name: str = Field(description="module:function; naming it runs that code")

    def apply(self, text: str) -> str:
        changed = named_function(self.name)(text)
        if not isinstance(changed, str):
            raise DataError(f"the function {self.name} must return a str, but it returned {type(changed).__name__}.")
        return changed

    def origins(self, text: str) -> None:  # noqa: ARG002
        return None


Transform = Annotated[Strip | CollapseWhiteSpace | Normalise | Replace | OwnTransform, Field(discriminator="transform")]

_RUN = re.compile(r"\s+")


def transformed(record: Record, transforms: Sequence[TransformConfig]) -> Record | None:
    """The record after all transforms, in their order; None if an entity span cannot be moved along.

    Afterwards a span covers what its characters became. A span that lost all its characters, or whose edge is inside
    what became one character, cannot be moved.
    """
    text, entities = record.text, record.entities
    for transform in transforms:
        changed = transform.apply(text)
        if changed == text:
            continue
        if entities:
            origins = transform.origins(text)
            moved = None if origins is None else _moved(entities, origins)
            if moved is None:
                return None
            entities = moved
        text = changed
    return record if text is record.text else replace(record, text=text, entities=entities)


def _moved(entities: Sequence[Entity], origins: Starts) -> tuple[Entity, ...] | None:
    moved = []
    for start, end, label in entities:
        first, last = np.searchsorted(origins, [start, end]).tolist()
        if first == last:
            return None
        moved.append(Entity(first, last, label))
    return tuple(moved)


def checked_pattern(pattern: str) -> str:
    """The pattern itself, if it is a regular expression.

    Raises:
        ValueError: it is not.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} must be a regular expression: {error}") from None
    return pattern
