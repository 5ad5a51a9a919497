"""Which word targets stand in windows of ids, and where."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.corpus.windows import WindowBatch
from cclm_core.text.vocabulary import FIRST_BYTE, FIRST_CHARACTER, NUM_SPECIAL, Preprocessor
from cclm_core.text.word_targets import WordTargets

Places = npt.NDArray[np.int64]
_Ids = npt.NDArray[np.integer[Any]]

# As bytes, which every vocabulary has. What goes on with a word, and what does not.
_LETTER, _SPACE = FIRST_BYTE + ord("_"), FIRST_BYTE + ord(" ")


class WindowWords(NamedTuple):
    """The targets of a batch, in the order of the text; the pieces of a word follow each other.

    Attributes:
        targets: (T,) int64, what stands there; 0 is "other".
        words: (T,) int64, the number of the word that each is a piece of, from 0 on.
        starts, ends: (T,) int64, the places of the flattened batch that each covers, half open.
        rows: (N,) int64, the row of each word.
        first, last: (N,) int64, the first and the last place of each word.
    """

    targets: Places
    words: Places
    starts: Places
    ends: Places
    rows: Places
    first: Places
    last: Places


def window_words(batch: WindowBatch, preprocessor: Preprocessor, targets: WordTargets) -> WindowWords:
    """Finds the words that stand whole in their windows, and their targets.

    A word that the edge of its window may have cut is left out: one that touches the edge, also over an apostrophe
    (`don'` may go on with a `t`), or over a part of a rare character's bytes.

    Every row is decoded with a letter put at either end, and all of them are read as one text. So the words of a window
    are by definition those of `WordTargets`, and a word that was possibly cut is one that has such a letter.
    """
    rows, length = batch.ids.shape
    width = length + 3  # a letter before, a letter behind, a space before the next row
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
    """Which ids are bytes that go on with a character."""
    return (ids >= FIRST_BYTE + 0x80) & (ids < FIRST_BYTE + 0xC0)


def _whole_characters(ids: _Ids, lengths: Places) -> _Ids:
    """Ids (B, L) of windows with letters in place of bytes whose character the edge of the window cuts in two."""
    is_byte = (ids >= FIRST_BYTE + 0x80) & (ids < FIRST_CHARACTER)
    if not is_byte.any():
        return ids
    continues = _continues(ids)
    behind = np.logical_and.accumulate(continues, axis=1)
    size = 2 + (ids >= FIRST_BYTE + 0xE0) + (ids >= FIRST_BYTE + 0xF0)
    begun = is_byte & ~continues & (np.arange(ids.shape[1]) + size > lengths[:, None])
    before = np.logical_or.accumulate(begun, axis=1) & is_byte
    return np.where(behind | before, _LETTER, ids)
