"""Computes features of texts as `ComposedModel.embed` does, and measures the speed."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cclm_core.composition.long_texts import TextReader
from cclm_core.runtime.device import Precision
from cclm_core.text.vocabulary import Preprocessor


class Composed(Protocol):
    """A model to evaluate: maps ids (B, L) int64 to features (B, L, width), independent of the padding."""

    preprocessor: Preprocessor
    width: int

    @property
    def columns(self) -> Mapping[str, slice]:
        """The feature columns of each part; empty if the fusion mixes them."""

    @property
    def causal(self) -> bool:
        """Whether the features of a character depend only on it and the characters before it."""

    def __call__(self, ids: Tensor) -> Tensor: ...

    def parameters(self) -> Iterator[Any]:
        """The weights, as in `torch.nn.Module`."""


class Reader(TextReader):
    """A `TextReader` that counts the characters read (`characters`) and the model's time (`seconds`).

    Args:
        composed: the frozen composition, in evaluation mode.
        batch_characters: ids per forward pass, including padding, unless a single window is longer.
        window: ids per window; the windows of longer texts overlap by half.
        precision: precision of the model's matrix products; features are always float32.
    """

    def __init__(self, composed: Composed, batch_characters: int, window: int, precision: Precision = "fp32") -> None:
        super().__init__(
            composed, window=window, batch_characters=batch_characters, causal=composed.causal, precision=precision
        )
        self.width = composed.width
        self.characters, self.seconds = 0, 0.0

    def read(self, ids: npt.NDArray[np.int64]) -> Tensor:
        """Features (B, L, W), on the CPU, of `ids` (B, L) padded with 0."""
        began = time.perf_counter()
        features = super().read(ids)
        self.seconds += time.perf_counter() - began
        self.characters += int(np.count_nonzero(ids))
        return features
