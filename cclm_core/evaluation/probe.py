"""The interface of probes.

A probe measures how well a target can be predicted from the frozen features of a composition. The evaluator calls
`fit`, then `measure`, then `scorer` for each test set. It reads each test set once, and passes every piece to the
scorers of all probes.
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
from cclm_core.evaluation.selection import TextSet, with_variants
from cclm_core.evaluation.views import View
from cclm_core.runtime.errors import CclmError

Encoded = Sequence[npt.NDArray[np.integer]]
"""Ids (L,) of each document of a test set."""


class NotMeasurable(CclmError):  # noqa: N818 - the evaluation continues without the probe
    """The corpus lacks something that a probe needs. evaluation.json lists the message under `skipped`."""


@dataclass(frozen=True)
class Context:
    """Inputs shared by all probes of an evaluation.

    Attributes:
        reader: computes features of texts.
        corpus: probes are fitted on its train split and select hyperparameters on its validation split.
        test_sets: the clean test set first.
        variants: variants to read; documents without a variant are always read.
        views: all features first; then, for each component, the features without it.
        baselines: unfitted baselines by name. A probe uses those with its own kind of prediction.
        seed: selects documents and positions, the same ones for all compositions.
    """

    reader: Reader
    corpus: EncodedCorpus
    test_sets: Sequence[TextSet]
    variants: tuple[str, ...]
    views: Sequence[View]
    baselines: Mapping[str, object]
    seed: int

    def documents(self, split: str) -> pd.DataFrame:
        """The documents of a split to read, in the order of the file."""
        return with_variants(self.corpus.split(split).documents, self.variants)


@dataclass
class ProbeResult:
    """The measurements of a probe.

    Attributes:
        metrics: metric -> measurement.
        baselines: baseline -> metric -> measurement.
        without: component left out -> metric -> measurement.
        tables: name of a CSV file -> its rows.
    """

    metrics: dict[str, Measurement]
    baselines: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    without: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


class Scorer(ABC):
    """Scores one probe on one test set, piece by piece."""

    @abstractmethod
    def add(self, piece: Piece) -> None:
        """Predicts from the features of a piece of a document."""

    @abstractmethod
    def result(self) -> ProbeResult:
        """The metrics on the whole test set, once all pieces are added."""

    @abstractmethod
    def example(self, index: int) -> dict[str, Any]:
        """Truth and prediction for document `index`, for predictions.jsonl. Call `result` first."""


class Probe(ABC):
    """Measures how well a target can be predicted from the features of a composition."""

    @abstractmethod
    def fit(self) -> dict[str, float]:
        """Fits on the train split. Returns the hyperparameters selected on the validation split, by name.

        Raises:
            NotMeasurable: the corpus lacks something that the probe needs.
        """

    def measure(self) -> ProbeResult:
        """Metrics on the test split of the corpus; none by default."""
        return ProbeResult({})

    def scorer(self, test_set: TextSet, encoded: Encoded) -> Scorer | None:  # noqa: ARG002 - for subclasses
        """A scorer for a test set, given the ids `encoded` of its documents; None if the probe scores no test sets."""
        return None
