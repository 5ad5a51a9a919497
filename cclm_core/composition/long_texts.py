"""Reads texts of any length: splits them into windows, batches windows of similar length, and joins the features.

Evaluation, serving, scoring and correction all use `TextReader`, so that you serve what you measured.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.runtime.device import Precision, autocast, device_of
from cclm_core.runtime.errors import ConfigError

WINDOW = 2048
"""Default number of ids per window, in `ComposedModel.embed` and in evaluation."""


class TextEncoder(Protocol):
    """Maps ids (B, L) int64, 0 for padding, to features (B, L, W), invariant to padding."""

    def __call__(self, ids: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[Any]:
        """The weights, as in `torch.nn.Module`."""
        ...


class Piece(NamedTuple):
    """The final features of a run of ids of one text.

    Attributes:
        text: index of the text.
        start: index of the first id.
        features: (L, W) float32 on the CPU, of the ids `start` to `start + L`.
    """

    text: int
    start: int
    features: Tensor


class Window(NamedTuple):
    """A window of one text.

    Attributes:
        text: index of the text.
        start, stop: the ids, half open.
        first: the first id that no earlier window contains.
        next_start: start of the next window; `stop` for the last one.
    """

    text: int
    start: int
    stop: int
    first: int
    next_start: int

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.stop - self.start


class TextReader:
    """Reads texts of any length through an encoder, in memory bounded by one batch.

    A text longer than `window` is read in overlapping windows. An id in several windows gets the mean of its features
    or, with a causal encoder, its features from the earliest window, which has the most context.

    Args:
        encoder: in evaluation mode; runs without gradients, on its own device.
        window: ids per window, at least 1.
        overlap: ids shared by adjacent windows, 0 ≤ `overlap` < `window`; None for half of the window. Without overlap
            the last window is shorter; with overlap all windows have full size.
        batch_characters: ids per forward pass, including padding; a single longer window is a batch of its own.
        causal: whether the features of each id depend only on it and earlier ids.
        precision: precision of matrix products; features are always float32.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        window: int,
        overlap: int | None = None,
        batch_characters: int = 32768,
        causal: bool = False,
        precision: Precision = "fp32",
    ) -> None:
        self.encoder, self.window, self.batch_characters = encoder, window, batch_characters
        self.overlap = window - max(1, window // 2) if overlap is None else overlap
        for name, value in (("window", window), ("batch_characters", batch_characters)):
            if value < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {value}.")
        if not 0 <= self.overlap < window:
            raise ConfigError(f"`overlap` must be at least 0 and below the window of {window}, got {overlap}.")
        self._causal, self._precision = causal, precision

    def read(self, ids: npt.NDArray[np.int64]) -> Tensor:
        """The features (B, L, W) float32 on the CPU of one batch `ids` (B, L), padded with 0."""
        device = device_of(self.encoder)
        with torch.no_grad(), autocast(device, self._precision):
            return self.encoder(torch.from_numpy(ids).to(device)).float().cpu()

    def pieces(
        self, texts: Sequence[npt.NDArray[np.integer]], spans: Sequence[Sequence[Window]] | None = None
    ) -> Iterator[Piece]:
        """Yields the features of texts (L,), L ≥ 0, piece by piece, each id exactly once.

        The longest windows come first, so that memory peaks at the start. Pieces of the same text come in order.

        Args:
            texts: the ids of each text.
            spans: the windows of each text, see `spans.windows_of`; None for windows of equal size.
        """
        if spans is None:
            windows = [
                window
                for index, ids in enumerate(texts)
                for window in split(len(ids), self.window, self.overlap, index)
            ]
            windows.sort(key=lambda window: (-window.size, -window.text, window.start))
        else:  # sizes differ within a text, whose windows must stay in order
            longest = sorted(spans, key=lambda own: -max((window.size for window in own), default=0))
            windows = [window for own in longest for window in own]
        join = _CausalJoin() if self._causal else _MeanJoin()
        for batch in self._batches(windows):
            ids = np.zeros(self._shape(batch), dtype=np.int64)
            for row, window in zip(ids, batch, strict=False):
                row[: window.size] = texts[window.text][window.start : window.stop]
            for features, window in zip(self.read(ids), batch, strict=False):
                piece = join.add(window, features[: window.size])
                if len(piece.features):
                    yield piece

    def whole(
        self, texts: Sequence[npt.NDArray[np.integer]], width: int, spans: Sequence[Sequence[Window]] | None = None
    ) -> list[Tensor]:
        """The features (L, `width`) of each text (L,), L ≥ 0; arguments as in `pieces`."""
        rows = [torch.zeros(len(ids), width) for ids in texts]
        for text, start, features in self.pieces(texts, spans):
            rows[text][start : start + len(features)] = features
        return rows

    def _batches(self, windows: Sequence[Window]) -> Iterator[Sequence[Window]]:
        start = 0
        while start < len(windows):
            stop, length = start + 1, self._length(windows[start])
            while stop < len(windows):
                length = max(length, self._length(windows[stop]))
                if (stop + 1 - start) * length > self.batch_characters:
                    break
                stop += 1
            yield windows[start:stop]
            start = stop

    def _length(self, window: Window) -> int:
        return max(window.size, min(rounded(window.size), self.window))

    def _shape(self, batch: Sequence[Window]) -> tuple[int, int]:
        """Rows and ids of a batch, padding included: few different shapes, because torch keeps memory for each one."""
        length = max(map(self._length, batch))
        return max(len(batch), min(rounded(len(batch)), self.batch_characters // length)), length


def rounded(size: int, sizes: int = 8, multiple: int = 1) -> int:
    """The next of few sizes, because torch keeps memory for each shape that it has seen.

    Args:
        size: at least 1.
        sizes: how many there are between two powers of two, a power of two.
        multiple: all sizes are multiples of it, a power of two.

    >>> rounded(5), rounded(100), rounded(130), rounded(2048)
    (5, 104, 144, 2048)
    >>> [rounded(size, sizes=4, multiple=16) for size in (5, 100, 1030, 2048)]
    [16, 112, 1280, 2048]
    """
    step = max(multiple, 1 << max(0, (size - 1).bit_length() - sizes.bit_length()))
    return -(-size // step) * step


def split(length: int, window: int, overlap: int, text: int = 0) -> list[Window]:
    """Splits a text of `length` ids into windows. An empty text has none.

    >>> [(window.start, window.stop) for window in split(10, 4, 2)]
    [(0, 4), (2, 6), (4, 8), (6, 10)]
    >>> [(window.start, window.stop) for window in split(9, 4, 2)]
    [(0, 4), (2, 6), (4, 8), (5, 9)]
    >>> [(window.start, window.stop) for window in split(9, 4, 0)]
    [(0, 4), (4, 8), (8, 9)]
    """
    if not length:
        return []
    last_start = max(0, length - window) if overlap else length
    starts = [min(start, last_start) for start in range(0, max(1, length - overlap), window - overlap)]
    stops = [min(start + window, length) for start in starts]
    return [Window(text, *row) for row in zip(starts, stops, [0, *stops[:-1]], [*starts[1:], length], strict=True)]


class _MeanJoin:
    """Averages the features of an id over its windows. They are final once no later window contains the id."""

    def __init__(self) -> None:
        self._sums = self._counts = torch.zeros(0, 1)  # of ids that the next window contains as well

    def add(self, window: Window, features: Tensor) -> Piece:
        """Adds the `features` (L, W) of a window; returns those that are final."""
        sums, counts = features.clone(), torch.ones(window.size, 1)
        if window.start:
            sums[: len(self._sums)] += self._sums
            counts[: len(self._counts)] += self._counts
        final = window.next_start - window.start
        self._sums, self._counts = sums[final:], counts[final:]
        return Piece(window.text, window.start, sums[:final] / counts[:final])


class _CausalJoin:
    """Keeps the features of each id from its earliest window."""

    def add(self, window: Window, features: Tensor) -> Piece:
        """Returns those `features` (L, W) of a window that no earlier window had."""
        return Piece(window.text, window.first, features[window.first - window.start :])
