"""The contracts of baselines: one for each kind of prediction that a probe scores.

A baseline is fitted on the texts that the probe is fitted on, and predicts what the probe predicts.
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
        shown: (B, L) int64, what the model sees.
        places: (N,) int64, the masked positions of the flattened windows.
        ids: (N,) int64, the original ids at these positions.
        left, right: (N,) int64, the neighbors as shown; MASK at the edge of a window.
    """

    shown: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]


class CharacterBaseline(ABC):
    """Predicts masked characters."""

    @abstractmethod
    def fit(self, runs: Sequence[npt.NDArray[np.uint16]], masked: Masked) -> None:
        """Fits on runs of ids (L,) of the train split, and on masked windows of it."""

    @abstractmethod
    def bits(self, masked: Masked) -> Floats:
        """Bits (N,) of each masked character."""


class TagBaseline(ABC):
    """Finds entity spans."""

    max_documents: int

    @abstractmethod
    def fit(self, documents: Iterable[tuple[str, TextSpans]]) -> None:
        """Fits on texts of the train split with their entity spans, at most `max_documents` of them."""

    @abstractmethod
    def find(self, text: str) -> TextSpans:
        """The entity spans of a text."""


class LabelBaseline(ABC):
    """Predicts the label of a document."""

    @abstractmethod
    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        """Fits on texts of the train split."""

    @abstractmethod
    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of each text."""
