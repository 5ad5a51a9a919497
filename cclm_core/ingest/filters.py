"""Filters: conditions that a record must meet to enter the corpus. Rejected records go to the quarantine."""

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from cclm_core.corpus.records import Record
from cclm_core.ingest.named import named_function
from cclm_core.ingest.transforms import checked_pattern
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import DataError


class FilterConfig(Config):
    """A condition on the text of a record.

    A subclass adds a field `filter`, a literal of its name, and is listed in `Filter`.
    """

    @abstractmethod
    def reason(self, text: str) -> str | None:
        """Returns the reason to reject a text, or None to keep it.

        Reasons are counted, so they must not depend on the text.
        """


class LengthFilter(FilterConfig):
    """Keeps texts of `min_characters` to `max_characters` characters."""

    filter: Literal["length"]
    min_characters: int = Field(default=1, ge=1, description="shortest text to keep")
    max_characters: int | None = Field(default=None, ge=1, description="longest text to keep; null for no limit")

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(
                f"`max_characters` must be at least `min_characters` ({self.min_characters}), got {self.max_characters}"
            )
        return self

    def reason(self, text: str) -> str | None:
        """Returns the limit that the length of the text violates, or None."""
        if len(text) < self.min_characters:
            return f"shorter than {self.min_characters} characters"
        if self.max_characters is not None and len(text) > self.max_characters:
            return f"longer than {self.max_characters} characters"
        return None


class PatternFilter(FilterConfig):
    """Keeps or drops texts in which a regular expression matches anywhere."""

    filter: Literal["pattern"]
    keep: str | None = Field(default=None, description="keep texts in which this regular expression matches")
    drop: str | None = Field(default=None, description="drop texts in which this regular expression matches")

    @field_validator("keep", "drop")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return None if pattern is None else checked_pattern(pattern)

    @model_validator(mode="after")
    def _one_pattern(self) -> Self:
        if (self.keep is None) == (self.drop is None):
            raise ValueError("set exactly one of `keep` and `drop`")
        return self

    def reason(self, text: str) -> str | None:
        """Returns the pattern that rejects the text, or None."""
        if self.keep is not None:
            return None if re.search(self.keep, text) else f"does not match {self.keep}"
        return f"matches {self.drop}" if re.search(str(self.drop), text) else None


class LettersFilter(FilterConfig):
    """Keeps texts in which at least `min_share` of the non-space characters are letters of any script."""

    filter: Literal["letters"]
    min_share: float = Field(gt=0, le=1, description="minimum share of letters, 0 to 1")

    def reason(self, text: str) -> str | None:
        """Returns a reason if the share of letters is too small, or None. An empty text is kept."""
        characters = "".join(text.split())
        letters = sum(map(str.isalpha, characters))
        return None if letters >= self.min_share * len(characters) else f"share of letters below {self.min_share:g}"


class FunctionFilter(FilterConfig):
    """Keeps texts for which your own function returns True."""

    filter: Literal["function"]
    name: str = Field(description="module:function; its code is run")

    def reason(self, text: str) -> str | None:
        """Returns a reason if the function returns False, or None.

        Raises:
            ConfigError: the function cannot be imported.
            DataError: it does not return a bool.
        """
        kept = named_function(self.name)(text)
        if not isinstance(kept, bool):
            raise DataError(f"the filter {self.name} must return a bool, got {type(kept).__name__}.")
        return None if kept else f"not kept by {self.name}"


Filter = Annotated[LengthFilter | PatternFilter | LettersFilter | FunctionFilter, Field(discriminator="filter")]


def rejection_reason(record: Record, filters: Sequence[FilterConfig]) -> str | None:
    """Returns the reason of the first filter that rejects the record; None if all of them keep it."""
    reasons = (member.reason(record.text) for member in filters)
    return next((reason for reason in reasons if reason is not None), None)
