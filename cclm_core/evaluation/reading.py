"""Reading texts through a frozen composition, in batches of bounded size."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.runtime.device import Precision, autocast, device_of
from cclm_core.text.vocabulary import Preprocessor


class Composed(Protocol):
    """What is evaluated: a module that maps ids (B, L) int64 to features (B, L, width), whatever the padding."""

    preprocessor: Preprocessor
    width: int

    @property
    def columns(self) -> Mapping[str, slice]:
        """The columns of the features of each part; empty where they are mixed."""

    def __call__(self, ids: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[Any]: ...


class Piece(NamedTuple):
    """A part of a text: `features` (L, W) of the ids from `start` of the text number `text`."""

    text: int
    start: int
    features: Tensor


class Reader:
    """Computes features; counts the characters it read and the time the model took.

    Args:
        composed: the frozen composition, in evaluation mode.
        batch_characters: ids per forward pass, padding included, unless one piece alone is longer.
        max_window: a longer text is cut, without overlap, into pieces that are read apart.
        precision: of the model's matrix products; features are float32 in any case.
    """

    def __init__(
        self, composed: Composed, batch_characters: int, max_window: int, precision: Precision = "fp32"
    ) -> None:
        self.composed = composed
        self.width = composed.width
        self.batch_characters, self.max_window = batch_characters, max_window
        self.characters, self.seconds = 0, 0.0
        self._precision = precision
        self._device = device_of(composed)

    def __call__(self, ids: npt.NDArray[np.int64]) -> Tensor:
        """Features (B, L, W), on the CPU, of `ids` (B, L), padded with 0."""
        began = time.perf_counter()
        with torch.no_grad(), autocast(self._device, self._precision):
            features = self.composed(torch.from_numpy(ids).to(self._device)).float().cpu()
        self.seconds += time.perf_counter() - began
        self.characters += int(np.count_nonzero(ids))
        return features

    def pieces(self, texts: Sequence[npt.NDArray[np.integer]]) -> Iterator[Piece]:
        """The features of texts (L,) of any length, the empty one included, in batches of like length."""
        cuts = [
            (min(self.max_window, len(ids) - start), number, start)
            for number, ids in enumerate(texts)
            for start in range(0, len(ids), self.max_window)
        ]
        cuts.sort(reverse=True)  # the longest first, so that memory peaks at the start
        for chosen in self._batches(cuts):
            batch = np.zeros((len(chosen), chosen[0][0]), dtype=np.int64)
            for row, (length, number, start) in enumerate(chosen):
                batch[row, :length] = texts[number][start : start + length]
            for features, (length, number, start) in zip(self(batch), chosen, strict=True):
                yield Piece(number, start, features[:length])

    def _batches(self, cuts: list[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
        start = 0
        while start < len(cuts):
            stop = start + max(1, self.batch_characters // cuts[start][0])
            yield cuts[start:stop]
            start = stop
