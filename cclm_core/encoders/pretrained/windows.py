"""Windows of long texts, and the mean over windows and tokens for each character."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Spans = npt.NDArray[np.int64]


class Shares(NamedTuple):
    """How the features of tokens are spread over characters.

    Attributes:
        tokens: (N,) int64, a token.
        characters: (N,) int64, a character that it covers.
        weights: (N,) float32, its share in the features of the character.
    """

    tokens: Spans
    characters: Spans
    weights: npt.NDArray[np.float32]


def split_text(text: str, size: int, overlap: int) -> list[tuple[int, int]]:
    """Splits a text into windows of at most `size` characters, which begin and end between words where possible.

    Adjacent windows share about `overlap` characters. An empty text has no window.

    >>> split_text("one two three four", 10, 4)
    [(0, 8), (4, 14), (8, 18)]
    """
    if not text:
        return []
    windows: list[tuple[int, int]] = []
    start = stop = 0
    while True:
        end = start + size
        stop = len(text) if end >= len(text) else _between_words(text, end, max(stop + 1, end - size // 4))
        windows.append((start, stop))
        if stop == len(text):
            return windows
        start = _between_words(text, max(stop - overlap, start + 1), max(start + 1, stop - overlap - size // 8))


def _between_words(text: str, position: int, lowest: int) -> int:
    """The last position after whitespace, from `lowest` to `position`; otherwise `position`."""
    return next((at for at in range(position, lowest - 1, -1) if text[at - 1].isspace()), position)


def shares_of(spans: Spans, windows: Spans, starts: Spans, repeats: Spans) -> Shares:
    """Spreads tokens over the characters that they cover: the mean over the tokens of a window, then over windows.

    Args:
        spans: (T, 2) int64, first and last character (excluded) of each token in its window; empty for special tokens.
        windows: (T,) int64, the window of each token, ascending.
        starts: (number of windows,) int64, the first character of each window among those of all texts.
        repeats: (C,) int64, the number of windows that contain each character.
    """
    sizes = spans[:, 1] - spans[:, 0]
    tokens = np.repeat(np.arange(len(spans)), sizes)
    inner = np.arange(len(tokens)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    characters = starts[windows[tokens]] + spans[tokens, 0] + inner
    # A character can be covered by several tokens of a window, such as its bytes.
    _, index, counts = np.unique(windows[tokens] * len(repeats) + characters, return_inverse=True, return_counts=True)
    weights = 1.0 / (counts[index] * repeats[characters])
    return Shares(tokens, characters, weights.astype(np.float32))
