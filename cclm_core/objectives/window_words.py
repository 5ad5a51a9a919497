"""The word targets in windows of ids, and their positions."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.corpus.windows import WindowBatch
from cclm_core.text.vocabulary import FIRST_BYTE, FIRST_CHARACTER, NUM_SPECIAL, Preprocessor
from cclm_core.text.word_targets import WordTargets

Places = npt.NDArray[np.int64]
_Ids = npt.NDArray[np.integer[Any]]

# As bytes, which every vocabulary has: a character that continues a word, and one that ends it.
_LETTER, _SPACE = FIRST_BYTE + ord("_"), FIRST_BYTE + ord(" ")


class WindowWords(NamedTuple):
    """The targets of a batch, in the order of the text; the pieces of a word are adjacent.

    Attributes:
        targets: (T,) int64, the target of each piece; 0 is "other".
        words: (T,) int64, the index of the word of each piece, from 0.
        starts, ends: (T,) int64, the positions of the flattened batch that each piece covers, half open.
        rows: (N,) int64, the row of each word.
        first, last: (N,) int64, the first and the last position of each word.
    """

    targets: Places
    words: Places
    starts: Places
    ends: Places
    rows: Places
    first: Places
    last: Places


def window_words(batch: WindowBatch, preprocessor: Preprocessor, targets: WordTargets) -> WindowWords:
    """Finds the words that are complete in their windows, and their targets.

    Words that the edge of the window may have cut are left out: those that touch the edge, also through an apostrophe
    (`don'` may continue with a `t`) or through some of the bytes of a rare character.

    Every row is decoded with a letter added at both ends, and all rows are read as one text. So the words of a window
    are those of `WordTargets` by definition, and a word that may have been cut contains an added letter.
    """
    rows, length = batch.ids.shape
    width = length + 3  # a letter before and after, and a space before the next row
    row = np.arange(rows)
    symbols = np.full((rows, width), _SPACE, dtype=np.int64)
    symbols[:, 1 : length + 1] = _whole_characters(batch.ids, batch.lengths)
    symbols[:, 1 : length + 1][batch.ids < NUM_SPECIAL] = _SPACE
    symbols[:, 0] = symbols[row, batch.lengths + 1] = _LETTER
    text = preprocessor.decode(symbols)
    begins = np.append(np.flatnonzero(~_continues(symbols.reshape(-1))), symbols.size)
    assert len(begins) == len(text) + 1, "windows must hold what a Preprocessor encoded"
    ids, *spans = targets.encode(text)
    starts, ends = (begins[span] for span in spans)

    is_first = starts != np.append(-1, ends)[:-1]
    first, word = np.flatnonzero(is_first), np.cumsum(is_first) - 1
    last = np.append(first, len(starts))[1:] - 1
    rows_of_words = starts[first] // width
    is_whole = (starts[first] % width > 0) & ((ends[last] - 1) % width <= batch.lengths[rows_of_words])
    is_kept, number = is_whole[word], np.cumsum(is_whole) - 1

    def places(of: Places) -> Places:
        found: Places = of - 3 * (of // width) - 1
        return found

    return WindowWords(
        ids[is_kept],
        number[word[is_kept]],
        places(starts[is_kept]),
        places(ends[is_kept] - 1) + 1,
        rows_of_words[is_whole],
        places(starts[first[is_whole]]),
        places(ends[last[is_whole]] - 1),
    )


def _continues(ids: _Ids) -> npt.NDArray[np.bool_]:
    """Which ids are UTF-8 continuation bytes."""
    return (ids >= FIRST_BYTE + 0x80) & (ids < FIRST_BYTE + 0xC0)


def _whole_characters(ids: _Ids, lengths: Places) -> _Ids:
    """Ids (B, L) of windows with letters instead of bytes whose character is cut by the edge of the window."""
    is_byte = (ids >= FIRST_BYTE + 0x80) & (ids < FIRST_CHARACTER)
    if not is_byte.any():
        return ids
    continues = _continues(ids)
    behind = np.logical_and.accumulate(continues, axis=1)
    size = 2 + (ids >= FIRST_BYTE + 0xE0) + (ids >= FIRST_BYTE + 0xF0)
    begun = is_byte & ~continues & (np.arange(ids.shape[1]) + size > lengths[:, None])
    before = np.logical_or.accumulate(begun, axis=1) & is_byte
    return np.where(behind | before, _LETTER, ids)
