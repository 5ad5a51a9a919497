"""A closed alphabet: characters to ids and back; what is outside it goes through its UTF-8 bytes.

```
0 PAD   1 MASK   2 CLS   3 END   4..259 the bytes 0..255   260.. the characters, in the order of the alphabet
```

Text is looked up in slices of a few ten thousand characters: small enough that a slice and what is made of it stay
in the processor's cache, and Python stores a slice that is pure ASCII in one byte a character, which is read as it is.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.errors import DataError
from cclm_core.text.code_points import Points, code_points, text_of, utf8_widths

PAD, MASK, CLS, END = 0, 1, 2, 3
NUM_SPECIAL = 4
FIRST_BYTE = NUM_SPECIAL
FIRST_CHARACTER = FIRST_BYTE + 256
MAX_CHARACTERS = 2**16 - FIRST_CHARACTER  # ids are stored as uint16

Ids = npt.NDArray[np.uint16]

_SLICE = 1 << 15  # characters; the fastest of 2**12 ... 2**18, within a tenth, on both ASCII and other text


class Encoded(NamedTuple):
    """The ids of a text.

    Attributes:
        ids: (L,) uint16.
        lost: (K,) int64, ascending: which characters of the text are not in the alphabet.
        widths: (K,) int64: how many ids, one a byte, each of them has.
    """

    ids: Ids
    lost: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]


class Alphabet:
    """Ids of characters and of bytes; see the module.

    >>> alphabet = Alphabet("ab")
    >>> alphabet.encode("bé").ids.tolist()
    [261, 199, 173]
    >>> alphabet.decode(np.array([261, 199, 173]))
    'bé'
    """

    def __init__(self, characters: str) -> None:
        """An alphabet of distinct characters, at most 65,276.

        Raises:
            DataError: a character stands twice, is a lone surrogate, or there are too many.
        """
        points = code_points(characters)
        if len(points) > MAX_CHARACTERS:
            raise DataError(f"an alphabet must have at most {MAX_CHARACTERS} characters, got {len(points)}.")
        if len(np.unique(points)) < len(points):
            twice = next(character for character in characters if characters.count(character) > 1)
            raise DataError(f"the characters of an alphabet must be distinct, but {twice!r} stands in it twice.")
        self.num_ids = FIRST_CHARACTER + len(points)
        # One entry beyond the highest character: what lies above is clipped to it, and 0 means "not in the alphabet".
        self._ids = np.zeros(int(points.max(initial=0)) + 2, dtype=np.uint16)
        self._ids[points] = np.arange(FIRST_CHARACTER, self.num_ids, dtype=np.uint16)
        self._points = points
        # The bytes that an id stands for: of a byte, itself; of a character, its UTF-8.
        self._widths = np.concatenate([np.zeros(NUM_SPECIAL, np.int64), np.ones(256, np.int64), utf8_widths(points)])
        self._bytes = np.zeros((self.num_ids, 4), dtype=np.uint8)
        self._bytes[FIRST_BYTE:FIRST_CHARACTER, 0] = np.arange(256)
        is_used = np.arange(4) < self._widths[FIRST_CHARACTER:, None]
        self._bytes[FIRST_CHARACTER:][is_used] = np.frombuffer(characters.encode(), dtype=np.uint8)

    def encode(self, text: str) -> Encoded:
        """The ids of a text.

        Raises:
            UnicodeEncodeError: a lone surrogate; `code_points.refuse_surrogates` names it.
        """
        ids = np.empty(len(text), dtype=np.uint16)
        lost, points = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.uint32)]
        for start in range(0, len(text), _SLICE):
            found = ids[start : start + _SLICE]
            piece = _numbers(text[start : start + _SLICE])
            np.take(self._ids, piece, mode="clip", out=found)
            if not found.min():
                where = np.flatnonzero(found == 0)
                lost.append(where + start)
                points.append(piece[where].astype(np.uint32))
        if len(lost) == 1:
            return Encoded(ids, lost[0], lost[0])
        return _with_bytes(ids, np.concatenate(lost), np.concatenate(points))

    def decode(self, ids: npt.NDArray[Any]) -> str:
        """The text of ids (L,) between 0 and `num_ids` - 1; special ids are left out, broken UTF-8 is U+FFFD."""
        if (ids >= FIRST_CHARACTER).all():
            return text_of(self._points[ids - FIRST_CHARACTER])
        octets = self._bytes[ids][np.arange(4) < self._widths[ids][:, None]]
        return bytes(octets).decode("utf-8", errors="replace")


def _numbers(text: str) -> npt.NDArray[np.uint8] | Points:
    """The code points of a text, in one byte each where all are ASCII."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def _with_bytes(ids: Ids, lost: npt.NDArray[np.int64], points: Points) -> Encoded:
    """Puts the ids of its bytes in the place of each lost character."""
    widths = utf8_widths(points)
    before = np.cumsum(widths) - widths  # bytes of the lost characters before this one
    starts = lost + before - np.arange(len(lost))
    is_byte = np.zeros(len(ids) + int(widths.sum()) - len(lost), dtype=bool)
    is_byte[np.repeat(starts - before, widths) + np.arange(int(widths.sum()))] = True
    wide = np.empty(len(is_byte), dtype=np.uint16)
    wide[~is_byte] = ids[ids != 0]
    wide[is_byte] = np.frombuffer(text_of(points).encode(), dtype=np.uint8).astype(np.uint16) + FIRST_BYTE
    return Encoded(wide, lost, widths)
