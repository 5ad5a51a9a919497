"""A closed alphabet: characters to ids and back; what is outside it goes through its UTF-8 bytes.

```
0 PAD   1 MASK   2 CLS   3 END   4..259 the bytes 0..255   260.. the characters, in the order of the alphabet
```

Text is looked up in slices of a few ten thousand characters: small enough that a slice and what is made of it stay
in the processor's cache, and Python stores a slice that is pure ASCII in one byte a character, which is read as it is.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.runtime.errors import DataError
from cclm_core.text.code_points import Points, code_points, text_of, utf8_widths

PAD, MASK, CLS, END = 0, 1, 2, 3
NUM_SPECIAL = 4
FIRST_BYTE = NUM_SPECIAL
FIRST_CHARACTER = FIRST_BYTE + 256
MAX_CHARACTERS = 2**16 - FIRST_CHARACTER  # ids are stored as uint16

Ids = npt.NDArray[np.uint16]

_NUM_CODE_POINTS = 0x110000
_SLICE = 1 << 15  # characters; the fastest of 2**12 ... 2**18, within a tenth, on both ASCII and other text


class Encoded(NamedTuple):
    """The ids of texts.

    Attributes:
        ids: (N,) uint16, those of all texts, one after the other.
        lost: (K,) int64, ascending: which characters, counted through all texts, are not in the alphabet.
        widths: (K,) int64: how many ids, one a byte, each of them has.
    """

    ids: Ids
    lost: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]


_NONE = np.empty(0, dtype=np.int64)


class Alphabet:
    """Ids of characters and of bytes; see the module.

    >>> alphabet = Alphabet("ab")
    >>> alphabet.encode_text("bé").ids.tolist()
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
        # 0 means "not in the alphabet". The pages of memory in which no character lies are never touched.
        self._ids = np.zeros(_NUM_CODE_POINTS, dtype=np.uint16)
        self._ids[points] = np.arange(FIRST_CHARACTER, self.num_ids, dtype=np.uint16)
        self._points = points
        # The bytes that an id stands for: of a byte, itself; of a character, its UTF-8.
        self._widths = np.concatenate([np.zeros(NUM_SPECIAL, np.int64), np.ones(256, np.int64), utf8_widths(points)])
        self._bytes = np.zeros((self.num_ids, 4), dtype=np.uint8)
        self._bytes[FIRST_BYTE:FIRST_CHARACTER, 0] = np.arange(256)
        is_used = np.arange(4) < self._widths[FIRST_CHARACTER:, None]
        self._bytes[FIRST_CHARACTER:][is_used] = np.frombuffer(characters.encode(), dtype=np.uint8)

    def encode_text(self, text: str) -> Encoded:
        """The ids of one text; for a short one, with little work besides.

        Raises:
            UnicodeEncodeError: a lone surrogate; `code_points.refuse_surrogates` names it.
        """
        if len(text) > _SLICE:
            return self.encode([text], np.array([len(text)]))
        numbers = _numbers(text)
        ids = self._ids.take(numbers, mode="wrap")
        if ids.all():
            return Encoded(ids, _NONE, _NONE)
        lost = np.flatnonzero(ids == 0)
        wide, widths = _with_bytes(ids, lost, numbers[lost])
        return Encoded(wide, lost, widths)

    def encode(self, texts: Sequence[str], lengths: npt.NDArray[np.int64]) -> Encoded:
        """The ids of texts, one after the other.

        Args:
            texts: B texts.
            lengths: (B,), their numbers of characters.

        Raises:
            UnicodeEncodeError: a lone surrogate; `code_points.refuse_surrogates_in` names it.
        """
        num_characters = int(lengths.sum())
        # Room for some characters that become several ids; where it does not suffice, there is made more.
        ids = np.empty(num_characters + num_characters // 64, dtype=np.uint16)
        done, used, lost, widths = 0, 0, [_NONE], [_NONE]
        for piece in _pieces(texts, lengths):
            numbers = _numbers(piece)
            if used + len(numbers) > len(ids):
                ids = _grown(ids, used, num_characters - done)
            found = ids[used : used + len(numbers)]
            # Of NumPy's three ways to treat an index that is out of range, of which there is none, the fastest.
            np.take(self._ids, numbers, mode="wrap", out=found)
            if len(found) and not found.min():
                where = np.flatnonzero(found == 0)
                wide, more = _with_bytes(found, where, numbers[where])
                if used + len(wide) > len(ids):
                    ids = _grown(ids, used, num_characters - done + len(wide))
                ids[used : used + len(wide)] = wide
                lost.append(where + done)
                widths.append(more)
                used += len(wide) - len(found)
            used += len(numbers)
            done += len(numbers)
        return Encoded(ids[:used], np.concatenate(lost), np.concatenate(widths))

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


def _pieces(texts: Sequence[str], lengths: npt.NDArray[np.int64]) -> Iterator[str]:
    """The texts joined, in pieces of about `_SLICE` characters."""
    ends = np.cumsum(lengths)
    first, start = 0, 0
    while first < len(texts):
        last = max(first + 1, int(np.searchsorted(ends, start + _SLICE, side="right")))
        joined = "".join(texts[first:last])
        if len(joined) <= _SLICE:
            yield joined
        else:  # one long text
            yield from (joined[at : at + _SLICE] for at in range(0, len(joined), _SLICE))
        first, start = last, int(ends[last - 1])


def _grown(ids: Ids, used: int, more: int) -> Ids:
    """`ids` with its first `used` values and room for at least `more`."""
    larger = np.empty(used + more + len(ids) // 2, dtype=np.uint16)
    larger[:used] = ids[:used]
    return larger


def _with_bytes(ids: Ids, lost: npt.NDArray[np.int64], points: npt.NDArray[Any]) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Puts the ids of its bytes in the place of each lost character; `ids` is overwritten.

    Returns:
        The ids, and how many each lost character has.
    """
    widths = utf8_widths(points)
    octets = np.frombuffer(text_of(points).encode(), dtype=np.uint8).astype(np.uint16) + FIRST_BYTE
    is_first = np.zeros(len(octets), dtype=bool)
    is_first[np.cumsum(widths) - widths] = True
    ids[lost] = octets[is_first]
    # The other bytes of a character follow its first; each lost character before it has made room for its own.
    places = (np.repeat(lost - np.arange(len(lost)), widths) + np.arange(len(octets)))[~is_first]
    wide = np.empty(len(ids) + len(places), dtype=np.uint16)
    is_kept = np.ones(len(wide), dtype=bool)
    is_kept[places] = False
    wide[is_kept] = ids
    wide[places] = octets[~is_first]
    return wide, widths
