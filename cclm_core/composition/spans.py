"""Span getters: how a long text is divided into what a model reads at once.

| name | spans |
|---|---|
| `whole` | the whole text, however long: attention over all of it |
| `strided` | windows of `window` characters; a character in several windows gets the mean of its features |
| `sentences` | one span for each sentence; a longer one is read in windows |

Spans are in characters and cover the whole text, so nothing is cut off. Your own: `@block("spans")`, with the method
`spans_of(text)`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from cclm_core.composition.long_texts import WINDOW, Window, split
from cclm_core.runtime.blocks import Registered
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError, DataError

Span = tuple[int, int]
"""The characters from the first index to the second, which is excluded."""

_SENTENCE = re.compile(r".+?(?:[.!?\u2026]+[\"'\u201d\u2019)\]]*\s+|[\u3002\uff01\uff1f]+\s*|\n+|\Z)", re.DOTALL)
"""A sentence and the white space after it; the full stops of Chinese and Japanese need none."""


class SpanGetter(Protocol):
    """The contract of span getters, which are configurations."""

    def spans_of(self, text: str) -> Sequence[Span]:
        """Spans that cover a text without gaps; both starts and stops increase. None for an empty text."""
        ...


class WholeConfig(Config):
    """The whole text at once."""

    spans: Literal["whole"] = "whole"

    def spans_of(self, text: str) -> list[Span]:
        """One span."""
        return [(0, len(text))] if text else []


class StridedConfig(Config):
    """Overlapping windows of equal size."""

    spans: Literal["strided"] = "strided"
    window: int = Field(default=WINDOW, ge=1, description="characters per window")
    overlap: int = Field(default=WINDOW // 2, ge=0, description="characters that adjacent windows share")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(f"overlap must be below the window of {self.window}, got {self.overlap}")
        return self

    def spans_of(self, text: str) -> list[Span]:
        """The windows. Without overlap the last one is shorter."""
        return [(window.start, window.stop) for window in split(len(text), self.window, self.overlap)]


class SentencesConfig(Config):
    """Sentences, which end with a punctuation mark and white space, or with a line."""

    spans: Literal["sentences"] = "sentences"
    window: int = Field(
        default=WINDOW, ge=1, description="characters; a longer sentence is read in windows of this size"
    )

    def spans_of(self, text: str) -> list[Span]:
        """One span per sentence, with the white space after it.

        >>> SentencesConfig().spans_of("Yes. No!  Why")
        [(0, 5), (5, 10), (10, 13)]
        """
        spans = []
        for match in _SENTENCE.finditer(text):
            parts = split(len(match[0]), self.window, self.window // 2)
            spans += [(match.start() + part.start, match.start() + part.stop) for part in parts]
        return spans


SpansConfig = Annotated[
    WholeConfig | StridedConfig | SentencesConfig, Field(discriminator="spans"), Registered("spans")
]
"""Any span getter. This union is the catalogue."""


class _Holder(Config):
    spans: SpansConfig


def span_getter(given: Any) -> SpanGetter | None:
    """A span getter from its name, a mapping of its keys, or itself; None for None.

    Raises:
        ConfigError: there is no such span getter, or a key is wrong.
    """
    if given is None:
        return None
    value = {"spans": given} if isinstance(given, str) else given
    if isinstance(value, Mapping | Config):
        getter: SpanGetter = _Holder.parse({"spans": value}, "embed").spans
        return getter
    raise ConfigError(f"spans must be a name, a mapping or a configuration, got {given!r:.80}.")


def windows_of(getter: SpanGetter, text: str, offsets: npt.NDArray[np.integer], index: int) -> list[Window]:
    """The windows in ids that the spans of a text are read in.

    Args:
        getter: divides the text.
        text: the text.
        offsets: (L,) the character of each id; see `Preprocessor.offsets`.
        index: index of the text among those that are read.

    Raises:
        DataError: the spans do not cover the text, or go back.
    """
    spans = [(int(start), int(stop)) for start, stop in getter.spans_of(text)]
    if not len(offsets):
        return []
    _check(spans, len(text), type(getter).__name__)
    starts, stops = np.searchsorted(offsets, np.asarray(spans).T).tolist()
    starts[0], stops[-1] = 0, len(offsets)  # the id CLS is before the first character
    rows = [(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]
    ends = [stop for _, stop in rows]
    begins = [start for start, _ in rows[1:]]
    return [
        Window(index, start, stop, first, following)
        for (start, stop), first, following in zip(rows, [0, *ends[:-1]], [*begins, ends[-1]], strict=True)
    ]


def _check(spans: Sequence[Span], length: int, name: str) -> None:
    ends = [0, *(stop for _, stop in spans)]
    starts = [-1, *(start for start, _ in spans)]
    is_ordered = all(
        previous < start <= end < stop for previous, end, (start, stop) in zip(starts, ends, spans, strict=False)
    )
    if not is_ordered or ends[-1] != length:
        raise DataError(
            f"spans must cover the text of {length} characters without gaps, with increasing starts and stops, got "
            f"{list(spans[:5])!r:.80} from {name}. Correct `spans_of`."
        )
