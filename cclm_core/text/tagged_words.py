"""The words of a text that get a tag each: runs of letters and digits, and single punctuation marks.

They differ from the words of `text.words`, because an entity can end at an apostrophe or a hyphen.
"""

import re

_WORD = re.compile(r"\w+|[^\w\s]")

WordSpans = tuple[tuple[int, int], ...]
"""Start and end (excluded) of each word, in characters."""


def words_of(text: str) -> WordSpans:
    """The words of a text: runs of letters and digits, and single punctuation marks.

    >>> words_of("Ann's here.")
    ((0, 3), (3, 4), (4, 5), (6, 10), (10, 11))
    """
    return tuple(match.span() for match in _WORD.finditer(text))


def characters_of(text: str) -> WordSpans:
    """Every character that is not whitespace, as a word of its own."""
    return tuple((index, index + 1) for index, character in enumerate(text) if not character.isspace())
