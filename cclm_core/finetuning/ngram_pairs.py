"""Pairs of texts by counted n-grams: how similar both texts are, and a linear model on that."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.encoders.weights import read_header, read_weights
from cclm_core.evaluation.linear_probe import one_blas_thread
from cclm_core.finetuning.any_model import Floats
from cclm_core.finetuning.config import NgramsConfig
from cclm_core.finetuning.ngrams import VOCABULARY, WEIGHTS, Content, fit_linear, is_vocabulary, num_scores_of
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ArtifactError

_SIZES = ((1, 1), (2, 3), (3, 5))  # of the n-grams whose similarities are features
_KNOTS = (0.0, 0.2, 0.4, 0.6, 0.8)  # quantiles at which the slope of a feature can change
# Of 1, 1/20, 1/200 and less, all within 0.4 points on MRPC (74.1 to 74.5 %); 1/20 is best on STS-B (0.793). Gradient
# boosting on the same features: 72.2 % on MRPC.
_STRENGTH = 1 / 20  # for standardized features
_NUM_FEATURES = 2 * len(_SIZES) + 4

Pair = tuple[str, str]


class PairNgrams:
    """Similarities of the n-grams of both texts, and an additive model: piecewise linear in each similarity.

    The similarities are, per size of n-grams, the cosine of the TF-IDF vectors and the share of the shorter text that
    the longer one contains; and the lengths of both.

    Args:
        config: number of features and penalty; `sizes` is not read.
        labels: the K labels, sorted; none for `regress`.
        task: `classify`, `multilabel` or `regress`.
    """

    def __init__(self, config: NgramsConfig, labels: Sequence[str], task: LabeledTask) -> None:
        self.config, self.labels, self.task = config, tuple(labels), task
        self._vectorizers: list[Any] = []
        self._knots: Floats = np.zeros((0, 0))
        self._weight: npt.NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)
        self._bias: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def fit(self, pairs: Sequence[Pair], targets: Sequence[Any]) -> "PairNgrams":
        """Fits on N pairs with their targets; see `fit_linear`."""
        self._vectorizers = [self._new_vectorizer(size) for size in _SIZES]
        with one_blas_thread():
            for vectorizer in self._vectorizers:
                vectorizer.fit([text for pair in pairs for text in pair])
            similarities = self._similarities(pairs)
        self._knots = np.quantile(similarities, _KNOTS, axis=0).T
        columns = _bent(similarities, self._knots)
        mean, deviation = columns.mean(0), columns.std(0)
        inverse = np.where(deviation > 1e-9, 1 / np.maximum(deviation, 1e-9), 0)
        strength = self.config.strength * _STRENGTH
        weight, bias = fit_linear(self.task, (columns - mean) * inverse, targets, self.labels, strength)
        folded = weight.astype(np.float64) * inverse
        self._weight, self._bias = folded.astype(np.float32), (bias - folded @ mean).astype(np.float32)
        return self

    def scores(self, pairs: Sequence[Pair]) -> Floats:
        """Scores (N, K), as `Ngrams.scores`."""
        if not pairs:
            return np.zeros((0, len(self._bias)))
        with one_blas_thread():
            columns = _bent(self._similarities(pairs), self._knots)
            scores: Floats = columns @ self._weight.T.astype(np.float64) + self._bias
        return scores

    @property
    def content(self) -> Content:
        """What is saved."""
        names = [sorted(peer.vocabulary_, key=peer.vocabulary_.__getitem__) for peer in self._vectorizers]
        arrays = {"weight": self._weight, "bias": self._bias, "knots": self._knots.astype(np.float32)}
        arrays |= {f"idf_{number}": peer.idf_.astype(np.float32) for number, peer in enumerate(self._vectorizers)}
        return Content({**self.config.canonical(), "ngrams": names}, arrays)

    def save(self, folder: Path) -> None:
        """Writes the n-grams and the weights."""
        self.content.save(folder)

    @classmethod
    def load(cls, folder: Path, labels: Sequence[str], task: LabeledTask) -> "PairNgrams":
        """Reads what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        path = folder / VOCABULARY
        values = read_json(path)
        names = values.pop("ngrams", None) if isinstance(values, dict) else None
        if not isinstance(names, list) or len(names) != len(_SIZES) or not all(map(is_vocabulary, names)):
            raise ArtifactError(f"{path} must have {len(_SIZES)} lists of distinct `ngrams`. Train the task again.")
        ngrams = cls(NgramsConfig.parse(values, str(path)), labels, task)
        num_scores, width = num_scores_of(task, labels), _NUM_FEATURES * len(_KNOTS)
        shapes: dict[str, tuple[int, ...]] = {
            "weight": (num_scores, width),
            "bias": (num_scores,),
            "knots": (_NUM_FEATURES, len(_KNOTS)),
        }
        shapes |= {f"idf_{number}": (len(vocabulary),) for number, vocabulary in enumerate(names)}
        read_header(folder / WEIGHTS)
        expected = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        arrays = {name: tensor.numpy() for name, tensor in read_weights(folder / WEIGHTS, expected, str(path)).items()}
        for number, (size, vocabulary) in enumerate(zip(_SIZES, names, strict=True)):
            vectorizer = ngrams._new_vectorizer(size, {name: index for index, name in enumerate(vocabulary)})
            vectorizer.idf_ = arrays[f"idf_{number}"].astype(np.float64)
            ngrams._vectorizers.append(vectorizer)
        ngrams._knots = arrays["knots"].astype(np.float64)
        ngrams._weight, ngrams._bias = arrays["weight"], arrays["bias"]
        return ngrams

    def _new_vectorizer(self, size: tuple[int, int], vocabulary: dict[str, int] | None = None) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(
            analyzer="char_wb",
            ngram_range=size,
            max_features=self.config.max_features,
            sublinear_tf=True,
            vocabulary=vocabulary,
        )

    def _similarities(self, pairs: Sequence[Pair]) -> Floats:
        """The features (N, 10) of N pairs."""
        firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
        lengths = np.log1p(np.array([[len(first), len(second)] for first, second in pairs], dtype=np.float64))
        columns = [lengths[:, 0], lengths[:, 1], np.abs(lengths[:, 0] - lengths[:, 1])]
        columns.append(np.array([float(first == second) for first, second in pairs]))
        for vectorizer in self._vectorizers:
            first, second = vectorizer.transform(firsts), vectorizer.transform(seconds)
            columns.append(np.asarray(first.multiply(second).sum(axis=1))[:, 0])
            present = [(matrix > 0).astype(np.float64) for matrix in (first, second)]
            both = np.asarray(present[0].multiply(present[1]).sum(axis=1))[:, 0]
            sizes = np.minimum(*(np.asarray(matrix.sum(axis=1))[:, 0] for matrix in present))
            columns.append(both / np.maximum(sizes, 1))
        return np.stack(columns, axis=1)


def _bent(similarities: Floats, knots: Floats) -> Floats:
    """Piecewise linear features (N, F * knots) of similarities (N, F)."""
    bent: Floats = np.maximum(similarities[:, :, None] - knots[None], 0).reshape(len(similarities), -1)
    return bent
