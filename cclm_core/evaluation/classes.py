"""The class readout: the label of a document from its pooled features, and a bag of n-grams beside it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.evaluation.config import ClassesProbe
from cclm_core.evaluation.reading import Reader
from cclm_core.evaluation.readout import Readout, Scale, fit_penalised


class Pool:
    """How far features rise above and fall below their means by more than a deviation, on average over a text.

    What is rare in a text tells most of its class; a plain mean drowns it, and a maximum sees one character alone.
    (On the genres of held-out plays this read 0.50 where mean and maximum together read 0.45.)

    Args:
        scale: of the features of some characters.
        num_texts: N.
        longest: ids of each text that count, from its start.
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


def scale_of(reader: Reader, texts: Sequence[npt.NDArray[np.integer]], longest: int) -> Scale:
    """The scale of the features of texts of ids (L,), each cut after `longest`."""
    return Scale.of(torch.cat([piece.features for piece in reader.pieces([text[:longest] for text in texts])]))


def pool(reader: Reader, scale: Scale, texts: Sequence[npt.NDArray[np.integer]], longest: int) -> Tensor:
    """Pooled features (N, 2W) of texts of ids (L,), each cut after `longest`."""
    pooling = Pool(scale, len(texts), longest)
    for text, start, features in reader.pieces([text[:longest] for text in texts]):
        pooling.add(text, start, features)
    return pooling.pooled()


class ClassReadout(NamedTuple):
    """A readout of pooled features.

    Attributes:
        readout: of pooled features (N, 2W).
        labels: the classes, sorted.
        penalty: the L2 strength that was chosen.
    """

    readout: Readout
    labels: list[str]
    penalty: float

    def predict(self, pooled: Tensor) -> list[str]:
        """The label of each document of `pooled` (N, 2W)."""
        scores = self.readout.log_probabilities(pooled.double())
        return [self.labels[number] for number in scores.argmax(dim=1).tolist()]


def fit_classes(
    pooled: Tensor, labels: Sequence[str], held_out: Tensor, held_out_labels: Sequence[str], config: ClassesProbe
) -> ClassReadout:
    """Fits one readout per penalty on `pooled` (N, 2W); keeps the one with the least loss on `held_out` (M, 2W).

    Without held-out documents of known classes the penalty in the middle is taken.
    """
    classes = sorted(set(labels))
    targets = torch.tensor([classes.index(label) for label in labels])
    judged = [place for place, label in enumerate(held_out_labels) if label in classes]
    wanted = torch.tensor([classes.index(held_out_labels[place]) for place in judged], dtype=torch.int64)
    penalties = sorted(config.penalties)
    if not judged:
        penalties = [penalties[len(penalties) // 2]]
    best: tuple[float, ClassReadout] | None = None
    for penalty in penalties:
        readout = fit_penalised(pooled, targets, len(classes), penalty)
        scores = readout.log_probabilities(held_out[judged].double())
        loss = float(torch.nn.functional.nll_loss(scores, wanted)) if judged else 0.0
        if best is None or loss < best[0]:
            best = loss, ClassReadout(readout, classes, penalty)
    assert best is not None
    return best[1]


class NgramClasses:
    """Logistic regression over character 1- to 3-grams: what spelling alone tells of the class.

    Source: scikit-learn's TfidfVectorizer (sublinear) and LogisticRegression.
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[str], max_features: int = 20_000) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._vectorizer = TfidfVectorizer(
            analyzer="char", ngram_range=(1, 3), max_features=max_features, sublinear_tf=True, lowercase=False
        )
        with _one_thread():
            features = self._vectorizer.fit_transform(texts)
            self._model = LogisticRegression(C=10.0, max_iter=200).fit(features, list(labels))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of each text."""
        with _one_thread():
            return [str(label) for label in self._model.predict(self._vectorizer.transform(texts))]


class ClassScore(NamedTuple):
    """How predicted labels agree with gold ones.

    Attributes:
        labels: all that occur, sorted.
        confusion: (C, C) numbers of documents, gold by row, predicted by column.
    """

    labels: list[str]
    confusion: npt.NDArray[np.int64]

    @classmethod
    def of(cls, gold: Sequence[str], predicted: Sequence[str]) -> "ClassScore":
        """Counts pairs of labels."""
        labels = sorted({*gold, *predicted})
        confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
        for (row, column), number in Counter(zip(gold, predicted, strict=True)).items():
            confusion[labels.index(row), labels.index(column)] = number
        return cls(labels, confusion)

    @property
    def accuracy(self) -> float:
        """Share of documents with the right label."""
        return float(self.confusion.trace() / self.confusion.sum())

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the labels that occur in gold."""
        correct = self.confusion.diagonal()
        gold, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return float(np.mean((2 * correct / np.maximum(1, gold + predicted))[gold > 0]))


def majority(train: Sequence[str], gold: Sequence[str]) -> float:
    """The accuracy of always saying the most frequent label of `train` (ties: the first by name)."""
    counts = Counter(train)
    label = min(counts, key=lambda name: (-counts[name], name))
    return sum(name == label for name in gold) / len(gold)


def _one_thread() -> Any:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    return threadpool_limits(1)
