"""Code points of texts, and the check for lone surrogates, which are not characters."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cclm_core.runtime.errors import DataError

Points = npt.NDArray[np.uint32]


def code_points(text: str) -> Points:
    """The code points of a text, (N,) uint32.

    Raises:
        DataError: a lone surrogate; the message gives its position.
    """
    refuse_surrogates(text)
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def text_of(points: Points) -> str:
    """The text of code points (N,); the inverse of `code_points`."""
    return points.astype("<u4", copy=False).tobytes().decode("utf-32-le")


def refuse_surrogates(text: str) -> None:
    """Checks that a text is valid Unicode.

    Raises:
        DataError: a lone surrogate; the message gives its position.
    """
    if text.isascii():
        return
    try:
        text.encode("utf-32-le")
    except UnicodeEncodeError as error:
        name = f"U+{ord(text[error.start]):04X}"
        raise DataError(
            f"text must be valid Unicode, got the lone surrogate {name} at character {error.start}. "
            "Remove or replace it."
        ) from None


def refuse_surrogates_in(texts: Sequence[str]) -> None:
    """Checks that all texts are valid Unicode.

    Raises:
        DataError: a lone surrogate; the message gives its text and position.
    """
    for index, text in enumerate(texts):
        try:
            refuse_surrogates(text)
        except DataError as error:
            raise DataError(f"text {index}: {error}") from None


def utf8_widths(points: Points) -> npt.NDArray[np.int64]:
    """The number of UTF-8 bytes of each code point, (N,) int64 from 1 to 4.

    >>> utf8_widths(code_points("aé漢😀")).tolist()
    [1, 2, 3, 4]
    """
    return 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
