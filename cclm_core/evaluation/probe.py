"""The contract of probes.

A probe measures what can be predicted from the frozen features of a composition. The evaluator calls `fit`, then
`measure`, then `score` for every test set; it reads each test set once and hands every piece to all probes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cclm_core.composition.long_texts import Piece
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.evaluation.metrics import Measurement
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.selection import TextSet, of_variants
from cclm_core.evaluation.views import View
from cclm_core.runtime.errors import CclmError

Encoded = Sequence[npt.NDArray[np.integer]]
"""Ids (L,) of each document of a test set."""


class NotMeasurable(CclmError):  # noqa: N818 - not an error of the run: the evaluation goes on without the probe
    """The corpus lacks what a probe needs; the message is stored under `skipped` in evaluation.json."""


@dataclass(frozen=True)
class Context:
    """What every probe of one evaluation works with.

    Attributes:
        reader: reads texts through the composition.
        corpus: probes are fitted on its train split, choose hyperparameters on its validation split.
        test_sets: the clean test documents first.
        variants: documents of these variants are read, and those without a variant.
        views: all features first; then, for each component, the features without it.
        baselines: not fitted yet, by name; a probe uses those that predict what it predicts.
        seed: decides which documents and positions are read, the same for every composition.
    """

    reader: Reader
    corpus: EncodedCorpus
    test_sets: Sequence[TextSet]
    variants: tuple[str, ...]
    views: Sequence[View]
    baselines: Mapping[str, object]
    seed: int

    def documents(self, split: str) -> pd.DataFrame:
        """The documents of a split that are read, in the order of the file."""
        return of_variants(self.corpus.split(split).documents, self.variants)


@dataclass
class Figures:
    """What a probe measured.

    Attributes:
        metrics: measurements by name.
        baselines: the same metrics of each baseline, by its name.
        without: the same metrics without each component, by its name.
        tables: rows of tables that are published as CSV files, by the name of the file.
    """

    metrics: dict[str, Measurement]
    baselines: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    without: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


class Scoring(ABC):
    """The scores of one probe on one test set, collected while the set is read."""

    @abstractmethod
    def add(self, piece: Piece) -> None:
        """Takes the features of a part of a document."""

    @abstractmethod
    def figures(self) -> Figures:
        """The metrics of the whole test set."""

    @abstractmethod
    def example(self, place: int) -> dict[str, Any]:
        """What predictions.jsonl shows of document number `place`: the truth and the prediction."""


class Probe(ABC):
    """Measures what can be predicted from the features of a composition."""

    @abstractmethod
    def fit(self) -> dict[str, float]:
        """Fits on the train split; returns hyperparameters that the validation split chose, by name.

        Raises:
            NotMeasurable: the corpus lacks what the probe needs.
        """

    def measure(self) -> Figures:
        """Metrics of the test split of the corpus; none by default."""
        return Figures({})

    def score(self, test_set: TextSet, encoded: Encoded) -> Scoring | None:  # noqa: ARG002 - for subclasses
        """Starts to score a test set, whose documents have the ids `encoded`; None if the probe scores no test sets."""
        return None
