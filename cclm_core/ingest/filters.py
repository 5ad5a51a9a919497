"""Filters: which records become part of the corpus. The others go to the quarantine, counted by reason."""

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
    """A condition on the text of a record. A subclass adds a field `filter` with its name and a line in `Filter`."""

    @abstractmethod
    def reason(self, text: str) -> str | None:
        """Why a text is rejected, in the same words for the same reason; None if it is kept."""


class LengthFilter(FilterConfig):
    """Keeps texts of `min_characters` to `max_characters` characters."""

    filter: Literal["length"]
    min_characters: int = Field(default=1, ge=1, description="shortest text that is kept")
    max_characters: int | None = Field(default=None, ge=1, description="longest text that is kept; null for any")

    @model_validator(mode="after")
    def _some_length_is_kept(self) -> Self:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError("`max_characters` must be at least `min_characters`")
        return self

    def reason(self, text: str) -> str | None:
        if len(text) < self.min_characters:
            return f"shorter than {self.min_characters} characters"
        if self.max_characters is not None and len(text) > self.max_characters:
            return f"longer than {self.max_characters} characters"
        return None


class PatternFilter(FilterConfig):
    """Keeps texts that match a regular expression anywhere, or drops them."""

    filter: Literal["pattern"]
    keep: str | None = Field(default=None, description="regular expression that a text must match somewhere")
    drop: str | None = Field(default=None, description="regular expression that a text must not match anywhere")

    @field_validator("keep", "drop")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return None if pattern is None else checked_pattern(pattern)

    @model_validator(mode="after")
    def _one_pattern(self) -> Self:
        if (self.keep is None) == (self.drop is None):
            raise ValueError("exactly one of `keep` and `drop` must be given")
        return self

    def reason(self, text: str) -> str | None:
        if self.keep is not None:
            return None if re.search(self.keep, text) else f"does not match {self.keep}"
        return f"matches {self.drop}" if re.search(str(self.drop), text) else None


class LettersFilter(FilterConfig):
    """Keeps texts in which at least `min_share` of the characters, white space aside, are letters of any script."""

    filter: Literal["letters"]
    min_share: float = Field(gt=0, le=1, description="least share of letters")

    def reason(self, text: str) -> str | None:
        characters = "".join(text.split())
        letters = sum(map(str.isalpha, characters))
        return None if letters >= self.min_share * len(characters) else f"less than {self.min_share:g} letters"


class OwnFilter(FilterConfig):
    """A function of the user that decides whether a text is kept."""

    filter: Literal["function"]
    name: str = Field(description="module:function; naming it runs that code")

    def reason(self, text: str) -> str | None:
        kept = named_function(self.name)(text)
        if not isinstance(kept, bool):
            raise DataError(f"the function {self.name} must return a bool, but it returned {type(kept).__name__}.")
        return None if kept else f"not kept by {self.name}"


Filter = Annotated[LengthFilter | PatternFilter | LettersFilter | OwnFilter, Field(discriminator="filter")]


def rejection_reason(record: Record, filters: Sequence[FilterConfig]) -> str | None:
    """The reason of the first filter that rejects the record; None if all keep it."""
    reasons = (member.reason(record.text) for member in filters)
    return next((reason for reason in reasons if reason is not None), None)
