"""Texts longer than a model's window: cut into overlapping windows, joined again by averaging."""

from collections.abc import Callable, Sequence
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


def embed_texts(
    texts: Sequence[npt.NDArray[np.integer]],
    read: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]],
    width: int,
    window: int,
    batch_characters: int,
) -> list[npt.NDArray[np.float32]]:
    """The features (L, width) of texts (L,) of any length, read in batches of windows of like length.

    Args:
        texts: ids of each text.
        read: gives the features (B, L, width) of ids (B, L), 0 for padding.
        width: features per id.
        window: ids that are read at once, at least 2; what two windows say of an id is averaged.
        batch_characters: ids per call of `read`, padding included.
    """
    assert window >= 2
    lengths = [len(ids) for ids in texts]
    pieces = split_windows(lengths, window)
    order = sorted(range(len(pieces)), key=lambda number: pieces[number].size)
    rows: list[npt.NDArray[np.float32]] = [np.zeros((0, width), np.float32)] * len(pieces)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and pieces[order[stop]].size * (stop + 1 - start) <= batch_characters:
            stop += 1
        chosen = order[start:stop]
        batch = np.zeros((len(chosen), pieces[chosen[-1]].size), dtype=np.int64)
        for row, number in enumerate(chosen):
            piece = pieces[number]
            batch[row, : piece.size] = texts[piece.text][piece.start : piece.start + piece.size]
        output = read(batch)
        for row, number in enumerate(chosen):
            rows[number] = output[row, : pieces[number].size]
        start = stop
    return join_windows(rows, pieces, lengths)
