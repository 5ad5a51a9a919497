"""Words of windows, and the characters that a model reads for them after noise."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.encoders.base import at_least_float32
from cclm_core.objectives.noising import NoisedBatch

_Positions = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


class BatchWords(NamedTuple):
    """The words of a batch.

    Attributes:
        word_ids: (B, L) int64, index of the word at each position, -1 outside of words.
        num_words: number of words in the batch.
    """

    word_ids: _Positions
    num_words: int


class ReadWords(NamedTuple):
    """Selected words after noise, and the masks. Words of which noise left nothing are missing.

    Attributes:
        positions: (P,) int64, positions of their characters in the flattened noisy batch.
        word_of: (P,) int64, the word of each position, an index of `words`.
        words: (W,) int64, indices of the words among those of the clean batch.
        masked: (M,) int64, the positions to mask.
    """

    positions: _Positions
    word_of: _Positions
    words: _Positions
    masked: _Positions


def number_words(inside: _Flags) -> BatchWords:
    """Numbers the runs of true values of `inside` (B, L), row by row."""
    starts = inside.copy()
    starts[:, 1:] &= ~inside[:, :-1]
    index = np.cumsum(starts).reshape(inside.shape) - 1
    return BatchWords(np.where(inside, index, -1), int(starts.sum()))


def read_words(clean: BatchWords, noised: NoisedBatch, selected: _Flags, masked: _Flags) -> ReadWords:
    """Finds the characters of the `selected` words (num_words,) after noise, and those of the `masked` ones.

    Noise moves the characters of a word and inserts others: all of them belong to the word.
    """
    source = carry_forward(noised.source)
    word_ids = np.take_along_axis(clean.word_ids, np.maximum(source, 0), axis=1)
    word_ids = np.where((source >= 0) & (noised.ids > 0), word_ids, -1)
    is_read = (word_ids >= 0) & np.append(selected, False)[word_ids]
    words, index = np.unique(word_ids[is_read], return_inverse=True)
    is_masked = (word_ids >= 0) & np.append(masked, False)[word_ids]
    return ReadWords(np.flatnonzero(is_read), index.astype(np.int64), words, np.flatnonzero(is_masked))


def mean_features(features: Tensor, positions: Tensor, words: Tensor, num_words: int) -> Tensor:
    """The mean of `features` (B, L, W) over the characters of each word, (num_words, W), at least in float32.

    Args:
        features: of a batch.
        positions: (P,) int64, positions in the flattened batch.
        words: (P,) int64, the word of each position.
        num_words: number of words.
    """
    selected = at_least_float32(features.flatten(0, 1)[positions])
    sums = selected.new_zeros(num_words, selected.shape[1]).index_add(0, words, selected)
    return sums / torch.bincount(words, minlength=num_words).clamp(min=1)[:, None]


def carry_forward(source: _Positions) -> _Positions:
    """Replaces -1, the source (B, L) of an inserted character, by the source of the nearest earlier character.

    [3, -1, 4, -1, -1] → [3, 3, 4, 4, 4]
    """
    last = np.maximum.accumulate(np.where(source >= 0, np.arange(source.shape[1]), 0), axis=1)
    return np.take_along_axis(source, last, axis=1)
