"""Finds word targets and their positions in windows of ids."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.corpus.windows import WindowBatch
from cclm_core.text.vocabulary import FIRST_BYTE, FIRST_CHARACTER, NUM_SPECIAL, Preprocessor
from cclm_core.text.word_targets import WordTargets

Positions = npt.NDArray[np.int64]
_Ids = npt.NDArray[np.integer[Any]]

# A character that continues a word and one that ends it, as bytes, which every vocabulary has.
_LETTER, _SPACE = FIRST_BYTE + ord("_"), FIRST_BYTE + ord(" ")


class WindowWords(NamedTuple):
    """The word targets of a batch, in text order. The pieces of a word are adjacent.

    Attributes:
        targets: (T,) int64, target of each piece; 0 is "other".
        words: (T,) int64, index of the word of each piece, from 0.
        starts, ends: (T,) int64, positions of each piece in the flattened batch, half open.
        rows: (N,) int64, row of each word.
        first, last: (N,) int64, first and last position of each word.
    """

    targets: Positions
    words: Positions
    starts: Positions
    ends: Positions
    rows: Positions
    first: Positions
    last: Positions


def window_words(batch: WindowBatch, preprocessor: Preprocessor, targets: WordTargets) -> WindowWords:
    """Finds the complete words of each window, and their targets.

    Words that the edge of the window may have cut are skipped: those that touch the edge directly, through an
    apostrophe (`don'` may continue with `t`), or through an incomplete rare character.

    All rows are decoded as one text, with a letter added at both ends of each row. So the definition of words is that
    of `WordTargets`, and a word that may have been cut contains an added letter.
    """
    rows, length = batch.ids.shape
    width = length + 3  # a letter before and after, and a space before the next row
    row = np.arange(rows)
    symbols = np.full((rows, width), _SPACE, dtype=np.int64)
    symbols[:, 1 : length + 1] = _whole_characters(batch.ids, batch.lengths)
    symbols[:, 1 : length + 1][batch.ids < NUM_SPECIAL] = _SPACE
    symbols[:, 0] = symbols[row, batch.lengths + 1] = _LETTER
    text = preprocessor.decode(symbols)
    offsets = np.append(np.flatnonzero(~_continues(symbols.reshape(-1))), symbols.size)
    assert len(offsets) == len(text) + 1, "windows must contain ids from a Preprocessor"
    ids, *spans = targets.encode(text)
    starts, ends = (offsets[span] for span in spans)

    is_first = starts != np.append(-1, ends)[:-1]
    first, word = np.flatnonzero(is_first), np.cumsum(is_first) - 1
    last = np.append(first, len(starts))[1:] - 1
    rows_of_words = starts[first] // width
    is_whole = (starts[first] % width > 0) & ((ends[last] - 1) % width <= batch.lengths[rows_of_words])
    is_kept, index = is_whole[word], np.cumsum(is_whole) - 1
    return WindowWords(
        ids[is_kept],
        index[word[is_kept]],
        _in_batch(starts[is_kept], width),
        _in_batch(ends[is_kept] - 1, width) + 1,
        rows_of_words[is_whole],
        _in_batch(starts[first[is_whole]], width),
        _in_batch(ends[last[is_whole]] - 1, width),
    )


def _in_batch(offsets: Positions, width: int) -> Positions:
    """Offsets in rows with three added characters, of size `width`, as positions in the flattened batch."""
    positions: Positions = offsets - 3 * (offsets // width) - 1
    return positions


def _continues(ids: _Ids) -> npt.NDArray[np.bool_]:
    """Whether each id is a UTF-8 continuation byte."""
    return (ids >= FIRST_BYTE + 0x80) & (ids < FIRST_BYTE + 0xC0)


def _whole_characters(ids: _Ids, lengths: Positions) -> _Ids:
    """Ids (B, L) with letters in place of bytes whose character the edge of the window has cut."""
    is_byte = (ids >= FIRST_BYTE + 0x80) & (ids < FIRST_CHARACTER)
    if not is_byte.any():
        return ids
    continues = _continues(ids)
    cut_at_start = np.logical_and.accumulate(continues, axis=1)
    size = 2 + (ids >= FIRST_BYTE + 0xE0) + (ids >= FIRST_BYTE + 0xF0)
    is_incomplete = is_byte & ~continues & (np.arange(ids.shape[1]) + size > lengths[:, None])
    cut_at_end = np.logical_or.accumulate(is_incomplete, axis=1) & is_byte
    return np.where(cut_at_start | cut_at_end, _LETTER, ids)
