"""Encoded texts: concatenated, or padded to one length."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.runtime.errors import ConfigError
from cclm_core.text.alphabet import Ids

MAX_BATCH = 1 << 32
"""The most ids in one padded array, 32 GiB."""


def check_length(length: Any) -> int:
    """Returns the length of a row if it is one.

    Raises:
        ConfigError: it is not an integer from 0 to `MAX_BATCH`.
    """
    if isinstance(length, bool) or not isinstance(length, int | np.integer) or not 0 <= length <= MAX_BATCH:
        raise ConfigError(f"`length` must be an integer from 0 to {MAX_BATCH:,}, got {length!r:.80}.")
    return int(length)


class Ragged(NamedTuple):
    """The ids of several texts, concatenated.

    Attributes:
        ids: (N,) uint16, the ids of all texts.
        lengths: (B,) int64, the number of ids of each text; their sum is N.
        fallbacks: (B,) int64, the number of characters of each text that became bytes, and at least 1 if normalization
            changed the text. With 0, id k is character k.
    """

    ids: Ids
    lengths: npt.NDArray[np.int64]
    fallbacks: npt.NDArray[np.int64]


class Batch(NamedTuple):
    """Texts as a padded array.

    Attributes:
        ids: (B, L) int64, padded with PAD on the right.
        lengths: (B,) int64, the number of ids of each row, padding excluded.
        cut: (B,) int64, the number of characters cut from the end of each text; 0 without `truncate`.
    """

    ids: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    cut: npt.NDArray[np.int64]
