"""Character n-grams with logistic regression: trained in seconds, robust to typing errors, saved without pickle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.encoders.weights import read_header, read_weights, save_weights
from cclm_core.evaluation.linear_probe import one_blas_thread
from cclm_core.finetuning.config import NgramsConfig
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.errors import ArtifactError

VOCABULARY, WEIGHTS = "ngrams.json", "ngrams.safetensors"
_MANY_TEXTS = 3000  # with more texts, n-grams that occur once are left out
_MAX_ITERATIONS = 100

Floats = npt.NDArray[np.float64]


class Ngrams:
    """TF-IDF over character n-grams inside words, and multinomial logistic regression.

    Source: scikit-learn's TfidfVectorizer (`char_wb`, sublinear) and LogisticRegression.

    Args:
        config: sizes of the n-grams, number of features, penalty.
        labels: the K labels, sorted.
    """

    def __init__(self, config: NgramsConfig, labels: Sequence[str]) -> None:
        self.config, self.labels = config, tuple(labels)
        self._vectorizer: Any = None
        self._weight: npt.NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)
        self._bias: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def fit(self, texts: Sequence[str], labels: Sequence[str]) -> "Ngrams":
        """Fits on N texts with their labels. A label without a text gets a very low probability."""
        from sklearn.linear_model import LogisticRegression

        self._vectorizer = self._new_vectorizer(min_df=2 if len(texts) > _MANY_TEXTS else 1)
        model = LogisticRegression(C=self.config.strength, max_iter=_MAX_ITERATIONS)
        with one_blas_thread():
            features = self._vectorizer.fit_transform(texts)
            if len(set(labels)) == 1:
                weight, bias, known = np.zeros((1, features.shape[1])), np.zeros(1), sorted(set(labels))
            else:
                model.fit(features, list(labels))
                weight, bias, known = model.coef_, model.intercept_, [str(label) for label in model.classes_]
        if len(weight) == 1 and len(known) == 2:  # the score of the second label against the first
            weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros(1), bias])
        rows = [self.labels.index(label) for label in known]
        self._weight = np.zeros((len(self.labels), weight.shape[1]), dtype=np.float32)
        self._bias = np.full(len(self.labels), bias.min() - 20, dtype=np.float32)
        self._weight[rows], self._bias[rows] = weight, bias
        return self

    def log_probabilities(self, texts: Sequence[str]) -> Floats:
        """Log-probabilities (N, K) of the labels, in nats."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        with one_blas_thread():
            features = self._vectorizer.transform(list(texts))
            scores = np.asarray(features @ self._weight.T.astype(np.float64)) + self._bias
        scores -= scores.max(axis=1, keepdims=True)
        normalized: Floats = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return normalized

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable label of each text."""
        return [self.labels[number] for number in self.log_probabilities(texts).argmax(axis=1)] if texts else []

    def save(self, folder: Path) -> None:
        """Writes the n-grams and the weights."""
        vocabulary = self._vectorizer.vocabulary_
        names = sorted(vocabulary, key=vocabulary.__getitem__)
        write_json(folder / VOCABULARY, {**self.config.canonical(), "ngrams": names})
        arrays = {"weight": self._weight, "bias": self._bias, "idf": self._vectorizer.idf_.astype(np.float32)}
        save_weights({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path, labels: Sequence[str]) -> "Ngrams":
        """Reads what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        path = folder / VOCABULARY
        values = read_json(path)
        names = values.pop("ngrams", None) if isinstance(values, dict) else None
        if (
            not isinstance(names, list)
            or not all(isinstance(name, str) for name in names)
            or len(set(names)) != len(names)
        ):
            raise ArtifactError(f"{path} must have the list `ngrams` of distinct strings. Train the task again.")
        ngrams = cls(NgramsConfig.parse(values, str(path)), labels)
        shapes = {"weight": (len(ngrams.labels), len(names)), "bias": (len(ngrams.labels),), "idf": (len(names),)}
        read_header(folder / WEIGHTS)
        expected = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        arrays = {name: tensor.numpy() for name, tensor in read_weights(folder / WEIGHTS, expected, str(path)).items()}
        ngrams._vectorizer = ngrams._new_vectorizer(vocabulary={name: number for number, name in enumerate(names)})
        ngrams._vectorizer.idf_ = arrays["idf"].astype(np.float64)
        ngrams._weight, ngrams._bias = arrays["weight"], arrays["bias"]
        return ngrams

    def _new_vectorizer(self, **arguments: Any) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(
            analyzer="char_wb",
            ngram_range=self.config.sizes,
            max_features=self.config.max_features,
            sublinear_tf=True,
            **arguments,
        )
