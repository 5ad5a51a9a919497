"""Texts longer than a model's window: cut into overlapping windows, joined again by averaging."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Piece(NamedTuple):
    """A window: `size` ids of the text number `text`, from `start`."""

    text: int
    start: int
    size: int


def split_windows(lengths: Sequence[int], window: int) -> list[Piece]:
    """Cuts texts of these lengths into windows of at most `window` ids that overlap by half.

    Every text has at least one piece, the empty one too; the last window of a long text ends at its end.
    """
    pieces = []
    for text, length in enumerate(lengths):
        starts = [*range(0, max(1, length - window), max(1, window // 2))]
        if length > window:
            starts.append(length - window)
        pieces += [Piece(text, start, min(window, length)) for start in starts]
    return pieces


def join_windows(
    rows: Sequence[npt.NDArray[np.float32]], pieces: Sequence[Piece], lengths: Sequence[int]
) -> list[npt.NDArray[np.float32]]:
    """Puts the features (size, W) of each piece back; a place in several windows gets their mean."""
    width = rows[0].shape[1] if rows else 0
    sums = [np.zeros((length, width), np.float32) for length in lengths]
    counts = [np.zeros((length, 1), np.float32) for length in lengths]
    for row, piece in zip(rows, pieces, strict=True):
        span = slice(piece.start, piece.start + piece.size)
        sums[piece.text][span] += row
        counts[piece.text][span] += 1
    return [(total / np.maximum(count, 1)).astype(np.float32) for total, count in zip(sums, counts, strict=True)]
