"""Filters: which records come into the corpus. What is filtered out goes to the quarantine, counted by reason."""

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from cclm_core.corpus.records import Record
from cclm_core.ingest.named import named_function
from cclm_core.ingest.transforms import checked_pattern
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import DataError


class Filter(Config):
    """One condition on the text of a record."""

    @abstractmethod
    def reason(self, text: str) -> str | None:
        """Why a text is left out, in the same words for the same fault; None where it is kept."""


class LengthFilter(Filter):
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


class PatternFilter(Filter):
    """Keeps texts in which a regular expression finds something, or drops them."""

    filter: Literal["pattern"]
    keep: str | None = Field(default=None, description="regular expression that must be found in a text")
    drop: str | None = Field(default=None, description="regular expression that must not be found in a text")

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


class LettersFilter(Filter):
    """Keeps texts of which at least `min_share` of the characters that are no white space are letters of any script."""

    filter: Literal["letters"]
    min_share: float = Field(gt=0, le=1, description="share of letters that a text must have at least")

    def reason(self, text: str) -> str | None:
        characters = "".join(text.split())
        letters = sum(map(str.isalpha, characters))
        return None if letters >= self.min_share * len(characters) else f"less than {self.min_share:g} letters"


class OwnFilter(Filter):
    """A function of the user's that says whether a text is kept."""

    filter: Literal["function"]
    name: str = Field(description="module:function; naming it runs that code")

    def reason(self, text: str) -> str | None:
        kept = named_function(self.name)(text)
        if not isinstance(kept, bool):
            raise DataError(f"the function {self.name} must return a bool, but it returned {type(kept).__name__}.")
        return None if kept else f"not kept by {self.name}"


FILTERS: Mapping[str, type[Filter]] = {
    "length": LengthFilter,
    "pattern": PatternFilter,
    "letters": LettersFilter,
    "function": OwnFilter,
}


def why_left_out(record: Record, filters: Sequence[Filter]) -> str | None:
    """The reason of the first filter that leaves the record out; None where all keep it."""
    for one in filters:
        reason = one.reason(record.text)
        if reason is not None:
            return reason
    return None
