"""A closed alphabet: characters to ids and back. Characters outside it become their UTF-8 bytes.

```
0 PAD   1 MASK   2 CLS   3 END   4..259 the bytes 0..255   260.. the characters of the alphabet, in order
```

Text is encoded in slices of 32,768 characters. A slice and its ids fit into the processor's cache, and the bytes of a
pure ASCII slice can be read without conversion.
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
_SLICE = 1 << 15  # characters; within 10 % of the fastest of 2**12 to 2**18, on ASCII and on other text


class Encoded(NamedTuple):
    """The ids of texts.

    Attributes:
        ids: (N,) uint16, the ids of all texts, concatenated.
        unknown: (K,) int64, ascending: the indices in the joined texts of the characters outside the alphabet.
        widths: (K,) int64: the number of ids, one per byte, of each unknown character.
    """

    ids: Ids
    unknown: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]


_NONE = np.empty(0, dtype=np.int64)


class Alphabet:
    """Maps characters and bytes to ids; the module lists the ids.

    >>> alphabet = Alphabet("ab")
    >>> alphabet.encode_text("bé").ids.tolist()
    [261, 199, 173]
    >>> alphabet.decode(np.array([261, 199, 173]))
    'bé'
    """

    def __init__(self, characters: str) -> None:
        """Creates an alphabet of at most 65,276 distinct characters.

        Raises:
            DataError: a character is repeated or is a lone surrogate, or there are too many.
        """
        points = code_points(characters)
        if len(points) > MAX_CHARACTERS:
            raise DataError(
                f"an alphabet must have at most {MAX_CHARACTERS} characters, got {len(points)}. Remove some."
            )
        if len(np.unique(points)) < len(points):
            repeated = next(character for character in characters if characters.count(character) > 1)
            raise DataError(f"an alphabet must not repeat a character, got {repeated!r} twice. Remove one.")
        self.num_ids = FIRST_CHARACTER + len(points)
        # 0 means "not in the alphabet". `zeros` allocates no memory for ranges of code points without a character.
        self._ids = np.zeros(_NUM_CODE_POINTS, dtype=np.uint16)
        self._ids[points] = np.arange(FIRST_CHARACTER, self.num_ids, dtype=np.uint16)
        self._points = points
        # The bytes of each id: a byte itself, or the UTF-8 of a character.
        self._widths = np.concatenate([np.zeros(NUM_SPECIAL, np.int64), np.ones(256, np.int64), utf8_widths(points)])
        self._bytes = np.zeros((self.num_ids, 4), dtype=np.uint8)
        self._bytes[FIRST_BYTE:FIRST_CHARACTER, 0] = np.arange(256)
        is_used = np.arange(4) < self._widths[FIRST_CHARACTER:, None]
        self._bytes[FIRST_CHARACTER:][is_used] = np.frombuffer(characters.encode(), dtype=np.uint8)

    def encode_text(self, text: str) -> Encoded:
        """The ids of one text; fast for short texts.

        Raises:
            UnicodeEncodeError: a lone surrogate; call `code_points.refuse_surrogates` for a better message.
        """
        if len(text) > _SLICE:
            return self.encode([text], np.array([len(text)]))
        numbers = _numbers(text)
        ids = self._ids.take(numbers, mode="wrap")
        if ids.all():
            return Encoded(ids, _NONE, _NONE)
        unknown = np.flatnonzero(ids == 0)
        wide, widths = _with_bytes(ids, unknown, numbers[unknown])
        return Encoded(wide, unknown, widths)

    def encode(self, texts: Sequence[str], lengths: npt.NDArray[np.int64]) -> Encoded:
        """The ids of several texts, concatenated.

        Args:
            texts: B texts.
            lengths: (B,) int64, the number of characters of each text.

        Raises:
            UnicodeEncodeError: a lone surrogate; call `code_points.refuse_surrogates_in` for a better message.
        """
        num_characters = int(lengths.sum())
        # Some spare room for characters that become several ids; `_grown` adds more if it is not enough.
        ids = np.empty(num_characters + num_characters // 64, dtype=np.uint16)
        done, used, unknown, widths = 0, 0, [_NONE], [_NONE]
        for piece in _pieces(texts, lengths):
            numbers = _numbers(piece)
            if used + len(numbers) > len(ids):
                ids = _grown(ids, used, num_characters - done)
            piece_ids = ids[used : used + len(numbers)]
            # No index is out of range; "wrap" is the fastest of NumPy's modes.
            np.take(self._ids, numbers, mode="wrap", out=piece_ids)
            if len(piece_ids) and not piece_ids.min():
                indices = np.flatnonzero(piece_ids == 0)
                wide, piece_widths = _with_bytes(piece_ids, indices, numbers[indices])
                if used + len(wide) > len(ids):
                    ids = _grown(ids, used, num_characters - done + len(wide))
                ids[used : used + len(wide)] = wide
                unknown.append(indices + done)
                widths.append(piece_widths)
                used += len(wide) - len(piece_ids)
            used += len(numbers)
            done += len(numbers)
        return Encoded(ids[:used], np.concatenate(unknown), np.concatenate(widths))

    def decode(self, ids: npt.NDArray[Any]) -> str:
        """The text of ids (L,) from 0 to `num_ids` - 1. Special ids are skipped; invalid UTF-8 becomes U+FFFD."""
        if (ids >= FIRST_CHARACTER).all():
            return text_of(self._points[ids - FIRST_CHARACTER])
        octets = self._bytes[ids][np.arange(4) < self._widths[ids][:, None]]
        return bytes(octets).decode("utf-8", errors="replace")


def _numbers(text: str) -> npt.NDArray[np.uint8] | Points:
    """The code points of a text: uint8 if all are ASCII, otherwise uint32."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def _pieces(texts: Sequence[str], lengths: npt.NDArray[np.int64]) -> Iterator[str]:
    """Yields the joined texts in pieces of at most `_SLICE` characters."""
    ends = np.cumsum(lengths)
    first, start = 0, 0
    while first < len(texts):
        last = max(first + 1, int(np.searchsorted(ends, start + _SLICE, side="right")))
        joined = "".join(texts[first:last])
        if len(joined) <= _SLICE:
            yield joined
        else:  # one long text
            yield from (joined[begin : begin + _SLICE] for begin in range(0, len(joined), _SLICE))
        first, start = last, int(ends[last - 1])


def _grown(ids: Ids, used: int, more: int) -> Ids:
    """A larger copy of `ids[:used]`, with room for at least `more` values."""
    larger = np.empty(used + more + len(ids) // 2, dtype=np.uint16)
    larger[:used] = ids[:used]
    return larger


def _with_bytes(
    ids: Ids, unknown: npt.NDArray[np.int64], points: npt.NDArray[Any]
) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Replaces each unknown character by the ids of its UTF-8 bytes. Overwrites `ids`.

    Returns:
        The longer ids, and the number of ids of each unknown character.
    """
    widths = utf8_widths(points)
    octets = np.frombuffer(text_of(points).encode(), dtype=np.uint8).astype(np.uint16) + FIRST_BYTE
    is_first = np.zeros(len(octets), dtype=bool)
    is_first[np.cumsum(widths) - widths] = True
    ids[unknown] = octets[is_first]
    # Positions in `wide` of the continuation bytes, shifted by the bytes of all unknown characters before them.
    positions = (np.repeat(unknown - np.arange(len(unknown)), widths) + np.arange(len(octets)))[~is_first]
    wide = np.empty(len(ids) + len(positions), dtype=np.uint16)
    is_old = np.ones(len(wide), dtype=bool)
    is_old[positions] = False
    wide[is_old] = ids
    wide[positions] = octets[~is_first]
    return wide, widths
