"""The interfaces of baselines, one per probe.

A baseline is fitted on texts of the train split, and makes the same kind of prediction as the probe.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cclm_core.evaluation.metrics import Floats
from cclm_core.evaluation.spans import TextSpans


class Masked(NamedTuple):
    """Windows with masked characters.

    Attributes:
        shown: (B, L) int64, the ids that the model reads.
        positions: (N,) int64, the masked positions in the flattened windows.
        ids: (N,) int64, the original ids at these positions.
        left, right: (N,) int64, the neighbors as the model reads them; MASK at the edge of a window.
    """

    shown: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]


class CharacterBaseline(ABC):
    """Predicts masked characters."""

    @abstractmethod
    def fit(self, runs: Sequence[npt.NDArray[np.uint16]], masked: Masked) -> None:
        """Fits on runs of consecutive ids (L,) of the train split, and on masked windows of it."""

    @abstractmethod
    def bits(self, masked: Masked) -> Floats:
        """Bits (N,) of the masked characters: -log2 of their predicted probabilities."""


class TagBaseline(ABC):
    """Finds entity spans."""

    max_documents: int

    @abstractmethod
    def fit(self, documents: Iterable[tuple[str, TextSpans]]) -> None:
        """Fits on at most `max_documents` texts of the train split with their entity spans."""

    @abstractmethod
    def find(self, text: str) -> TextSpans:
        """The entity spans of a text."""


class LabelBaseline(ABC):
    """Predicts the label of a document."""

    @abstractmethod
    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        """Fits on texts of the train split and their labels."""

    @abstractmethod
    def predict(self, texts: Sequence[str]) -> list[str]:
        """The predicted label of each text."""
