"""The labels probe: predicts the label of a document from its pooled features."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from cclm_core.composition.long_texts import Piece
from cclm_core.corpus.encoded_split import MAX_DOCUMENT_LABELS
from cclm_core.evaluation.baselines.base import LabelBaseline
from cclm_core.evaluation.candidates import MIN_CHOSEN
from cclm_core.evaluation.held_out import HeldOut, group_numbers
from cclm_core.evaluation.label_models import LabelMember, LabelModel, LabelsFitter, fit_labels
from cclm_core.evaluation.linear_probe import Scale
from cclm_core.evaluation.metrics import Measurement, macro_f1, ratio
from cclm_core.evaluation.part_choice import choose_parts
from cclm_core.evaluation.probe import (
    Context,
    Encoded,
    NotMeasurable,
    Probe,
    ProbeResult,
    Scorer,
    small_sample_warnings,
)
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.selection import TextSet, document_ids, labeled_ids, limit_ids, shuffled
from cclm_core.runtime.config import Config

BASELINE_CHARACTERS = 20_000_000
"""Training characters to fit baselines on, at most."""


class LabelsProbeConfig(Config):
    """The label of a document, such as its topic, from its pooled features; see `Pool`."""

    probe: Literal["labels"] = "labels"
    train_documents: int | None = Field(
        default=20_000, ge=1, description="maximum number of labeled training documents to fit on; null: all"
    )
    validation_documents: int = Field(
        default=200, ge=0, description="maximum number of validation documents to select the penalty with"
    )
    scale_documents: int = Field(default=60, ge=1, description="training documents to standardize features with")
    test_documents: int | None = Field(
        default=None, ge=1, description="maximum number of labeled test documents to score; null: all"
    )
    min_characters: int = Field(default=1, ge=1, description="leave out shorter documents")
    max_characters: int = Field(default=400, ge=1, description="truncate longer documents")
    penalties: tuple[float, ...] = Field(
        default=(3e-4, 1e-3, 3e-3, 1e-2), min_length=1, description="L2 strengths to select from; see `fit_penalized`"
    )

    def build(self, context: Context) -> "LabelsProbe":
        """The unfitted probe."""
        return LabelsProbe(self, context)

    def metric_names(self, test_sets: Sequence[str]) -> list[str]:
        """The names of the metrics on the test split and on these test sets, if the corpus has labels."""
        metrics = (_ACCURACY, "label_macro_f1")
        return [*metrics, *(f"{metric}_{name}" for name in test_sets for metric in metrics)]


class LabelsProbe(Probe):
    """Predicts labels of test documents. On the test split also without each component, and with the baselines."""

    def __init__(self, config: LabelsProbeConfig, context: Context) -> None:
        self.config, self._context = config, context
        self.scale: Scale | None = None
        self.baselines = {
            name: baseline for name, baseline in context.baselines.items() if isinstance(baseline, LabelBaseline)
        }
        self._fitted: dict[str, LabelModel] = {}
        self._alone: dict[str, LabelModel] = {}

    def fit(self) -> dict[str, float]:
        """See `Probe.fit`."""
        config, reader, max_ids = self.config, self._context.reader, self.config.max_characters
        train, held_out = (
            self._labeled(split, number)
            for split, number in (("train", config.train_documents), ("validation", config.validation_documents))
        )
        if train["label"].nunique() < 2:
            raise NotMeasurable(
                f"the training documents must have at least two labels, got {train['label'].nunique()} in {len(train)} "
                f"labeled documents{self._at_least()}"
            )
        num_labels = len({*train["label"], *self._test()["label"]})
        if num_labels > MAX_DOCUMENT_LABELS:
            raise NotMeasurable(
                f"labels must be categories, at most {MAX_DOCUMENT_LABELS:,} different ones, got {num_labels:,} in "
                f"{len(train):,} training documents. Check ingest.source.columns.label"
            )
        if self._test().empty:
            raise NotMeasurable(f"no test document{self._at_least()} has a label")
        self.scale = scale_of(reader, self._ids("train", train.iloc[: config.scale_documents]), max_ids)
        pooled = pool(reader, self.scale, self._ids("train", train), max_ids)
        labels = train["label"].tolist()
        if not self._choose(pooled, labels, held_out):
            self._read_all(pooled, labels, held_out)
        self._fit_baselines()
        return {"label_penalty": self._fitted[""].members[0].penalty}

    def _read_all(self, pooled: Tensor, labels: Sequence[str], held_out: pd.DataFrame) -> None:
        """Fits a probe on the features of all components, and those without each component."""
        validation = self._pooled(self._ids("validation", held_out))
        held_out_labels, penalties = held_out["label"].tolist(), self.config.penalties
        views = self._context.parts.all_views()
        for view in views:
            features = view.of_pooled(pooled), view.of_pooled(validation)
            fitted = fit_labels(features[0], labels, features[1], held_out_labels, penalties)
            self._fitted[view.left_out] = LabelModel((LabelMember(view, fitted.probe, fitted.penalty),), (1.0,))
        self.read = views[0].read

    def _choose(self, pooled: Tensor, labels: Sequence[str], held_out: pd.DataFrame) -> bool:
        """Chooses which components are read, and how, if there are several and enough validation documents."""
        context, names = self._context, self._context.parts.choosable
        columns = {label: column for column, label in enumerate(sorted(set(labels)))}
        held_out = held_out[held_out["label"].isin(columns)]
        if not names or len(held_out) < MIN_CHOSEN:
            return False
        ids = self._ids("validation", held_out)
        copies = context.noise.copies(self.shortened(ids), context.seed, "labels")
        encode = context.corpus.preprocessor.encode
        features = [self._pooled(ids), *(self._pooled([encode(noised.text) for noised in copy]) for copy in copies)]
        levels = context.noise.level_weights()
        targets = np.array([columns[label] for label in held_out["label"]] * len(levels), dtype=np.int64)
        data = HeldOut("classify", levels, targets, np.arange(len(targets)), group_numbers(held_out))
        fitter = LabelsFitter(context.parts, pooled, labels, torch.cat(features), data, self.config.penalties)
        self.choice = choice = choose_parts(names, data, fitter, context.seed)
        chosen = fitter.model(choice.chosen)
        self.read = tuple(names[part] for part in choice.chosen.parts)
        self._fitted = {"": chosen} | {name: chosen for name in names if name not in self.read}
        for part in choice.chosen.parts:
            if (rest := choice.rest(part)) is not None:
                self._fitted[names[part]] = fitter.model(rest)
        self._alone = {name: fitter.model(choice.alone(part)) for part, name in enumerate(names)}
        return True

    def _pooled(self, texts: Encoded) -> Tensor:
        assert self.scale is not None
        return pool(self._context.reader, self.scale, texts, self.config.max_characters)

    def measure(self) -> ProbeResult:
        """See `Probe.measure`."""
        test = self._test()
        gold = test["label"].tolist()
        pooled = self._pooled(self._ids("test", test))
        predicted = {left_out: model.predict(pooled) for left_out, model in self._fitted.items()}
        without = {
            left_out: {_ACCURACY: label_metrics(gold, labels)[_ACCURACY]}
            for left_out, labels in predicted.items()
            if left_out
        }
        rows = zip(test["id"].tolist(), gold, predicted[""], strict=True)
        table = [dict(zip(("id", "true", "predicted"), row, strict=True)) for row in rows]
        texts = self.shortened(self._ids("test", test))
        baselines = {name: label_metrics(gold, model.predict(texts)) for name, model in self.baselines.items()}
        warnings = small_sample_warnings(
            _ACCURACY, len(test), len(self._context.documents("test")), f"it needs labeled documents{self._at_least()}"
        )
        own = label_metrics(gold, predicted[""])
        return ProbeResult(own, baselines, without, {"confusion": table}, warnings, self.alone(pooled, gold))

    def scorer(self, test_set: TextSet, encoded: Encoded) -> Scorer | None:
        """See `Probe.scorer`."""
        scored_ids = labeled_ids(self._context.test_sets[0], self.config.min_characters)
        if not scored_ids:
            return None
        assert self.scale is not None
        pooling = Pool(self.scale, len(encoded), self.config.max_characters)
        return LabelScorer(self, pooling, test_set, encoded, scored_ids)

    def predict(self, pooled: Tensor) -> list[str]:
        """The labels that the probe predicts from pooled features (N, 2W) of the whole composition."""
        return self._fitted[""].predict(pooled)

    def alone(self, pooled: Tensor, gold: Sequence[str]) -> dict[str, dict[str, Measurement]]:
        """The accuracy with each component alone, from pooled features (N, 2W); empty if parts were not compared."""
        return {
            name: {_ACCURACY: label_metrics(gold, model.predict(pooled))[_ACCURACY]}
            for name, model in self._alone.items()
        }

    def shortened(self, texts: Encoded) -> list[str]:
        """The strings of `texts`, ids (L,), without what follows after the maximum length."""
        decode = self._context.corpus.preprocessor.decode
        return [decode(ids[: self.config.max_characters]) for ids in texts]

    def _fit_baselines(self) -> None:
        """Fits the baselines on all labeled training documents, since components may have read all of them.

        Long documents are read in parts of the maximum length. `BASELINE_CHARACTERS` limits the text.
        """
        if not self.baselines:
            return
        documents = self._context.documents("train")
        documents = shuffled(documents[documents["label"].notna()], self._context.seed, "documents", "baselines")
        documents = limit_ids(documents, BASELINE_CHARACTERS)
        size, texts, labels = self.config.max_characters, [], []
        for ids, label in zip(self._ids("train", documents), documents["label"].tolist(), strict=True):
            parts = self.shortened([ids[start : start + size] for start in range(0, len(ids), size)])
            texts += parts
            labels += [label] * len(parts)
        for baseline in self.baselines.values():
            baseline.fit(texts, labels)

    def _at_least(self) -> str:
        """The minimum length in words; "" if every text is long enough."""
        number = self.config.min_characters
        return f" of at least {number} characters (min_characters of the labels probe)" if number > 1 else ""

    def _test(self) -> pd.DataFrame:
        return self._labeled("test", self.config.test_documents)

    def _labeled(self, split: str, max_documents: int | None) -> pd.DataFrame:
        documents = self._context.documents(split)
        candidates = documents[documents["label"].notna() & (documents["length"] >= self.config.min_characters)]
        # Renaming "classes" would select other documents for every seed.
        return shuffled(candidates, self._context.seed, "documents", "classes", split).iloc[:max_documents]

    def _ids(self, split: str, documents: pd.DataFrame) -> list[npt.NDArray[np.uint16]]:
        return document_ids(self._context.corpus.split(split), documents)


class LabelScorer(Scorer):
    """Scores a fitted probe and its baselines on the documents of a test set with an id in `scored_ids`."""

    def __init__(
        self, probe: LabelsProbe, pooling: "Pool", test_set: TextSet, encoded: Encoded, scored_ids: set[str]
    ) -> None:
        self._probe, self._pooling, self._test_set = probe, pooling, test_set
        self._encoded, self._scored_ids = encoded, scored_ids
        self._predicted: list[str] = []

    def add(self, piece: Piece) -> None:
        """See `Scorer.add`."""
        self._pooling.add(*piece)

    def result(self) -> ProbeResult:
        """See `Scorer.result`."""
        pooled = self._pooling.pooled()
        self._predicted = self._probe.predict(pooled)
        scored = [index for index, name in enumerate(self._test_set.ids) if name in self._scored_ids]
        gold = [str(self._test_set.labels[index]) for index in scored]
        texts = self._probe.shortened([self._encoded[index] for index in scored])
        baselines = {
            name: {_ACCURACY: label_metrics(gold, baseline.predict(texts))[_ACCURACY]}
            for name, baseline in self._probe.baselines.items()
        }
        own = label_metrics(gold, [self._predicted[index] for index in scored])
        return ProbeResult(own, baselines, alone=self._probe.alone(pooled[scored], gold))

    def example(self, index: int) -> dict[str, Any]:
        """See `Scorer.example`."""
        if self._test_set.ids[index] not in self._scored_ids:
            return {}
        return {"label": self._test_set.labels[index], "predicted_label": self._predicted[index]}


_ACCURACY = "label_accuracy"


def label_metrics(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, Measurement]:
    """Accuracy and macro F1, the mean F1 of the labels that occur in `gold`."""
    labels = np.array(sorted({*gold, *predicted}), dtype=object)
    true, positive = (np.array(names, dtype=object)[:, None] == labels for names in (gold, predicted))
    correct = true & positive
    statistics = np.hstack([correct, true, positive]).astype(np.float64)

    return {
        _ACCURACY: ratio(correct.any(axis=1), np.ones(len(gold)), headline=True, labels=len(set(gold))),
        "label_macro_f1": Measurement(statistics, macro_f1, labels=len(set(gold))),
    }


class Pool:
    """Pools the features of the characters of each text: how far outliers are above and below the mean, on average.

    With standardized features z (L, W), the pooled features are mean(relu(z - 1)) and mean(relu(-z - 1)) over L.

    The label of a text depends most on its rare features. A mean averages them out, and a maximum depends on a single
    character: on the labels of held-out plays, this pooling reached an accuracy of 0.50, mean and maximum together
    0.45.

    Args:
        scale: standardizes the features.
        num_texts: N.
        max_ids: number of ids to pool per text, from its start.
    """

    def __init__(self, scale: Scale, num_texts: int, max_ids: int) -> None:
        self.scale, self.max_ids = scale, max_ids
        self._sums = torch.zeros(num_texts, 2 * len(scale.mean))
        self._counts = torch.zeros(num_texts, 1)

    def add(self, text: int, start: int, features: Tensor) -> None:
        """Adds the features (L, W) of the ids of text number `text`, from index `start`."""
        z = self.scale(features[: max(0, self.max_ids - start)])
        self._sums[text] += torch.cat([(z - 1).relu().sum(dim=0), (-z - 1).relu().sum(dim=0)])
        self._counts[text] += len(z)

    def pooled(self) -> Tensor:
        """The pooled features (N, 2W); zeros for a text without ids."""
        return self._sums / self._counts.clamp_min(1)


def scale_of(reader: Reader, texts: Encoded, max_ids: int) -> Scale:
    """The scale of the features of `texts`, ids (L,) truncated to `max_ids`."""
    return Scale.of(torch.cat([piece.features for piece in reader.pieces([text[:max_ids] for text in texts])]))


def pool(reader: Reader, scale: Scale, texts: Encoded, max_ids: int) -> Tensor:
    """Pooled features (N, 2W) of `texts`, ids (L,) truncated to `max_ids`."""
    pooling = Pool(scale, len(texts), max_ids)
    for piece in reader.pieces([text[:max_ids] for text in texts]):
        pooling.add(*piece)
    return pooling.pooled()
