"""The probe of labels: the label of a document, from its pooled features."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from cclm_core.composition.long_texts import Piece
from cclm_core.evaluation.baselines.base import LabelBaseline
from cclm_core.evaluation.linear_probe import PenalizedProbe, Scale, fit_penalized
from cclm_core.evaluation.metrics import Floats, Measurement, quotient, ratio
from cclm_core.evaluation.probe import Context, Encoded, ProbeResult, NotMeasurable, Probe, Scorer
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.selection import TextSet, document_ids, labeled_ids, shuffled, texts_of
from cclm_core.evaluation.views import View
from cclm_core.runtime.config import Config


class LabelsProbeConfig(Config):
    """The label of a document, e.g. its topic, from its pooled features: see `Pool`."""

    probe: Literal["labels"] = "labels"
    train_documents: int = Field(default=4000, ge=1, description="labeled documents of the train split, at most")
    validation_documents: int = Field(default=200, ge=0, description="those that choose the penalty, at most")
    scale_documents: int = Field(default=60, ge=1, description="training documents that give the scale of features")
    test_documents: int = Field(default=1000, ge=1, description="labeled documents of the test split, at most")
    min_characters: int = Field(default=200, ge=1, description="shorter documents are left out")
    max_characters: int = Field(default=400, ge=1, description="what is read of a longer one, from its start")
    penalties: tuple[float, ...] = Field(
        default=(3e-4, 1e-3, 3e-3, 1e-2), min_length=1, description="L2 strengths to choose from: see `fit_penalized`"
    )

    def build(self, context: Context) -> "LabelsProbe":
        """The probe, not fitted yet."""
        return LabelsProbe(self, context)


class LabelsProbe(Probe):
    """Predicts labels of test documents; on the test split also without each component, and by the baselines."""

    def __init__(self, config: LabelsProbeConfig, context: Context) -> None:
        self.config, self._context = config, context
        self.scale: Scale | None = None
        self._fitted: list[tuple[View, PenalizedProbe]] = []

    def fit(self) -> dict[str, float]:
        """See `Probe.fit`."""
        config, reader, longest = self.config, self._context.reader, self.config.max_characters
        train, held_out = (
            self._labeled(split, number)
            for split, number in (("train", config.train_documents), ("validation", config.validation_documents))
        )
        if train["label"].nunique() < 2:
            raise NotMeasurable(f"fewer than two labels among {len(train)} long training documents")
        if self._test().empty:
            raise NotMeasurable(f"no test document has a label and {config.min_characters} characters")
        self.scale = scale_of(reader, self._ids("train", train.iloc[: config.scale_documents]), longest)
        pooled = pool(reader, self.scale, self._ids("train", train), longest)
        validation = pool(reader, self.scale, self._ids("validation", held_out), longest)
        labels = train["label"].tolist(), held_out["label"].tolist()
        penalties = []
        for view in self._context.views:
            probe, penalty = fit_labels(
                view.of_pooled(pooled), labels[0], view.of_pooled(validation), labels[1], config.penalties
            )
            self._fitted.append((view, probe))
            penalties.append(penalty)
        return {"label_penalty": penalties[0]}

    def measure(self) -> ProbeResult:
        """See `Probe.measure`."""
        assert self.scale is not None
        test = self._test()
        gold = test["label"].tolist()
        pooled = pool(self._context.reader, self.scale, self._ids("test", test), self.config.max_characters)
        predicted = {view.left_out: probe.predict(view.of_pooled(pooled)) for view, probe in self._fitted}
        without = {
            left_out: {_ACCURACY: label_metrics(gold, labels)[_ACCURACY]}
            for left_out, labels in predicted.items()
            if left_out
        }
        rows = zip(test["id"].tolist(), gold, predicted[""], strict=True)
        table = [dict(zip(("id", "true", "predicted"), row, strict=True)) for row in rows]
        baselines = {name: label_metrics(gold, labels) for name, labels in self._baselines(test).items()}
        return ProbeResult(label_metrics(gold, predicted[""]), baselines, without, {"confusion": table})

    def scorer(self, test_set: TextSet, encoded: Encoded) -> Scorer | None:
        """See `Probe.scorer`."""
        chosen = labeled_ids(self._context.test_sets[0], self.config.min_characters)
        if not chosen:
            return None
        assert self.scale is not None
        pooling = Pool(self.scale, len(encoded), self.config.max_characters)
        return LabelScorer(self._fitted[0][1], pooling, test_set, chosen)

    def _baselines(self, test: pd.DataFrame) -> dict[str, list[str]]:
        """The labels of `test` that each baseline predicts."""
        train = self._labeled("train", self.config.train_documents)
        texts = {
            split: texts_of(
                self._context.corpus.split(split),
                documents,
                self._context.corpus.preprocessor,
                self.config.max_characters,
            )
            for split, documents in (("train", train), ("test", test))
        }
        predicted = {}
        for name, baseline in self._context.baselines.items():
            if isinstance(baseline, LabelBaseline):
                baseline.fit(texts["train"], train["label"].tolist())
                predicted[name] = baseline.predict(texts["test"])
        return predicted

    def _test(self) -> pd.DataFrame:
        return self._labeled("test", self.config.test_documents)

    def _labeled(self, split: str, most: int) -> pd.DataFrame:
        documents = self._context.documents(split)
        chosen = documents[documents["label"].notna() & (documents["length"] >= self.config.min_characters)]
        # "classes" is part of what a seed means: another name would choose other documents.
        return shuffled(chosen, self._context.seed, "documents", "classes", split).iloc[:most]

    def _ids(self, split: str, documents: pd.DataFrame) -> list[npt.NDArray[np.uint16]]:
        return document_ids(self._context.corpus.split(split), documents)


class LabelScorer(Scorer):
    """The labels that a fitted probe predicts for the `chosen` documents of one test set, by id."""

    def __init__(self, probe: PenalizedProbe, pooling: "Pool", test_set: TextSet, chosen: set[str]) -> None:
        self._probe, self._pooling, self._test_set, self._chosen = probe, pooling, test_set, chosen
        self._predicted: list[str] = []

    def add(self, piece: Piece) -> None:
        """See `Scorer.add`."""
        self._pooling.add(*piece)

    def result(self) -> ProbeResult:
        """See `Scorer.result`."""
        self._predicted = self._probe.predict(self._pooling.pooled())
        places = [place for place, name in enumerate(self._test_set.ids) if name in self._chosen]
        gold = [str(self._test_set.labels[place]) for place in places]
        return ProbeResult(label_metrics(gold, [self._predicted[place] for place in places]))

    def example(self, place: int) -> dict[str, Any]:
        """See `Scorer.example`."""
        if self._test_set.ids[place] not in self._chosen:
            return {}
        return {"label": self._test_set.labels[place], "predicted_label": self._predicted[place]}


_ACCURACY = "label_accuracy"


def label_metrics(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, Measurement]:
    """Accuracy, and the mean F1 of the labels that occur in `gold` (macro average)."""
    labels = sorted({*gold, *predicted})
    true, found = (np.array([[name == label for label in labels] for name in names]) for names in (gold, predicted))
    correct = true & found
    statistics = np.hstack([correct, true, found]).astype(np.float64)

    def macro_f1(sums: Floats) -> Floats:
        hits, true, found = np.split(sums, 3, axis=1)
        occurs = true > 0
        return quotient((quotient(2 * hits, true + found) * occurs).sum(axis=1), occurs.sum(axis=1).astype(np.float64))

    return {
        _ACCURACY: ratio(correct.any(axis=1), np.ones(len(gold)), headline=True),
        "label_macro_f1": Measurement(statistics, macro_f1),
    }


class Pool:
    """How far features rise above and fall below their means by more than a deviation, on average over a text.

    The rare features of a text say most about its label; a plain mean drowns them, and a maximum sees one character.
    (On the labels of held-out plays this reached 0.50 where mean and maximum together reached 0.45.)

    Args:
        scale: of the features of some characters.
        num_texts: N.
        longest: ids that are read of each text, from its start.
    """

    def __init__(self, scale: Scale, num_texts: int, longest: int) -> None:
        self.scale, self.longest = scale, longest
        self._sums = torch.zeros(num_texts, 2 * len(scale.mean))
        self._counts = torch.zeros(num_texts, 1)

    def add(self, text: int, start: int, features: Tensor) -> None:
        """Adds the features (L, W) of the ids of a text from `start` on."""
        counted = self.scale(features[: max(0, self.longest - start)])
        self._sums[text] += torch.cat([(counted - 1).relu().sum(dim=0), (-counted - 1).relu().sum(dim=0)])
        self._counts[text] += len(counted)

    def pooled(self) -> Tensor:
        """(N, 2W); zeros for a text without ids."""
        return self._sums / self._counts.clamp_min(1)


def scale_of(reader: Reader, texts: Encoded, longest: int) -> Scale:
    """The scale of the features of texts of ids (L,), each cut after `longest`."""
    return Scale.of(torch.cat([piece.features for piece in reader.pieces([text[:longest] for text in texts])]))


def pool(reader: Reader, scale: Scale, texts: Encoded, longest: int) -> Tensor:
    """Pooled features (N, 2W) of texts of ids (L,), each cut after `longest`."""
    pooling = Pool(scale, len(texts), longest)
    for piece in reader.pieces([text[:longest] for text in texts]):
        pooling.add(*piece)
    return pooling.pooled()


def fit_labels(
    pooled: Tensor, labels: Sequence[str], held_out: Tensor, held_out_labels: Sequence[str], penalties: Sequence[float]
) -> tuple[PenalizedProbe, float]:
    """Fits one probe per penalty on `pooled` (N, W); keeps the one with the least loss on `held_out` (M, W).

    Without held-out documents of known labels the penalty in the middle is taken.

    Returns:
        The probe, and its penalty.
    """
    columns = {label: column for column, label in enumerate(sorted(set(labels)))}
    rows = [row for row, label in enumerate(held_out_labels) if label in columns]
    targets = torch.tensor([columns[held_out_labels[row]] for row in rows], dtype=torch.int64)
    ordered = sorted(penalties)
    if not rows:
        middle = ordered[len(ordered) // 2]
        return fit_penalized(pooled, labels, middle), middle
    fitted = {penalty: fit_penalized(pooled, labels, penalty) for penalty in ordered}

    def loss(penalty: float) -> float:
        return float(torch.nn.functional.nll_loss(fitted[penalty].log_probabilities(held_out[rows]), targets))

    chosen = min(ordered, key=loss)
    return fitted[chosen], chosen
