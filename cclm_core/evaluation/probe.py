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
from cclm_core.evaluation.held_out import SelectionNoise
from cclm_core.evaluation.metrics import Measurement
from cclm_core.evaluation.part_choice import ProbeChoice
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.selection import TextSet, with_variants
from cclm_core.evaluation.views import Parts
from cclm_core.runtime.errors import CclmError

FEW_DOCUMENTS = 100
"""With fewer documents, a metric gets a warning: the standard error of an accuracy near 0.5 is then above 0.05."""

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
        variants: variants to read; documents without a variant are always read; None reads all.
        parts: the components of the composition and their features.
        baselines: unfitted baselines by name. A probe uses those with its own kind of prediction.
        seed: selects documents and positions, the same ones for all compositions.
        noise: noised copies of validation documents, to choose parts with.
    """

    reader: Reader
    corpus: EncodedCorpus
    test_sets: Sequence[TextSet]
    variants: tuple[str, ...] | None
    parts: Parts
    baselines: Mapping[str, object]
    seed: int
    noise: SelectionNoise = field(default_factory=SelectionNoise)

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
        warnings: what makes the metrics less reliable than they look, one sentence or two each.
        alone: component -> metric -> measurement of the probe that reads only this component.
    """

    metrics: dict[str, Measurement]
    baselines: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    without: dict[str, dict[str, Measurement]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    alone: dict[str, dict[str, Measurement]] = field(default_factory=dict)


def small_sample_warnings(metric: str, measured: int, available: int, needs: str) -> list[str]:
    """A warning if a metric is measured on few documents, or on a minor part of the test split; otherwise none.

    Args:
        metric: name of the metric.
        measured: number of documents that it is measured on.
        available: number of documents in the test split.
        needs: which documents can be measured, as a clause.

    >>> small_sample_warnings("label_accuracy", 10, 1008, "it needs labeled documents")
    ['label_accuracy is measured on only 10 of 1,008 test documents: it needs labeled documents.']
    >>> small_sample_warnings("label_accuracy", 600, 1008, "it needs labeled documents")
    []
    """
    if measured >= FEW_DOCUMENTS and 2 * measured >= available:
        return []
    return [f"{metric} is measured on only {measured:,} of {available:,} test documents: {needs}."]


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
        """Truth and prediction for document `index`, for predictions.jsonl; empty if it has neither.

        Call `result` first.
        """


class Probe(ABC):
    """Measures how well a target can be predicted from the features of a composition.

    Attributes:
        read: names of the components whose features the fitted probe reads; empty if the fusion mixes their features.
        choice: how these components and the way to read them were chosen; None if that was not compared.
    """

    read: tuple[str, ...] = ()
    choice: ProbeChoice | None = None

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
