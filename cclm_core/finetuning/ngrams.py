"""Character n-grams with a linear model: trained in seconds, robust to typing errors, saved without pickle."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.encoders.weights import read_header, read_weights, save_weights
from cclm_core.evaluation.linear_probe import one_blas_thread
from cclm_core.finetuning.config import NgramsConfig
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ArtifactError

VOCABULARY, WEIGHTS = "ngrams.json", "ngrams.safetensors"
MANY_TEXTS = 3000  # with more texts, n-grams that occur once are left out
_MAX_ITERATIONS = 100
_RIDGE = 20.0  # penalty of ridge regression at strength 1: 1 at the default strength

Floats = npt.NDArray[np.float64]


class Content(NamedTuple):
    """What is saved of n-grams: configuration and n-grams as JSON values, and float32 arrays by name."""

    values: dict[str, Any]
    arrays: dict[str, npt.NDArray[np.float32]]

    @property
    def digest(self) -> str:
        """SHA-256 of everything."""
        state = hashlib.sha256(canonical_json(self.values).encode())
        for name, array in sorted(self.arrays.items()):
            state.update(f"{name} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    def save(self, folder: Path) -> None:
        """Writes the files."""
        write_json(folder / VOCABULARY, self.values)
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in self.arrays.items()}
        save_weights(tensors, folder / WEIGHTS)


class Ngrams:
    """TF-IDF over character n-grams inside words, and a linear model: logistic regression, or ridge for `regress`.

    Source: scikit-learn's TfidfVectorizer (`char_wb`, sublinear), LogisticRegression and Ridge.

    Args:
        config: sizes of the n-grams, number of features, penalty.
        labels: the K labels, sorted; none for `regress`.
        task: `classify`, `multilabel` or `regress`.
    """

    def __init__(self, config: NgramsConfig, labels: Sequence[str], task: LabeledTask = "classify") -> None:
        self.config, self.labels, self.task = config, tuple(labels), task
        self._vectorizer: Any = None
        self._weight: npt.NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)
        self._bias: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def fit(self, texts: Sequence[str], targets: Sequence[Any]) -> "Ngrams":
        """Fits on N texts with their targets: see `fit_linear`."""
        self._vectorizer = self._new_vectorizer(min_df=2 if len(texts) > MANY_TEXTS else 1)
        with one_blas_thread():
            features = self._vectorizer.fit_transform(texts)
        weight, bias = fit_linear(self.task, features, targets, self.labels, self.config.strength)
        self._weight, self._bias = weight, bias
        return self

    def scores(self, texts: Sequence[str]) -> Floats:
        """Scores (N, K): log-probabilities up to a constant per text, log-odds, or values (N, 1)."""
        if not texts:
            return np.zeros((0, len(self._bias)))
        with one_blas_thread():
            features = self._vectorizer.transform(list(texts))
            scores: Floats = np.asarray(features @ self._weight.T.astype(np.float64)) + self._bias
        return scores

    def log_probabilities(self, texts: Sequence[str]) -> Floats:
        """Log-probabilities (N, K) of the labels, in nats."""
        return log_softmax(self.scores(texts))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable label of each text."""
        return [self.labels[number] for number in self.log_probabilities(texts).argmax(axis=1)] if texts else []

    @property
    def content(self) -> "Content":
        """What is saved."""
        vocabulary = self._vectorizer.vocabulary_
        names = sorted(vocabulary, key=vocabulary.__getitem__)
        arrays = {"weight": self._weight, "bias": self._bias, "idf": self._vectorizer.idf_.astype(np.float32)}
        return Content({**self.config.canonical(), "ngrams": names}, arrays)

    def save(self, folder: Path) -> None:
        """Writes the n-grams and the weights."""
        self.content.save(folder)

    @classmethod
    def load(cls, folder: Path, labels: Sequence[str], task: LabeledTask = "classify") -> "Ngrams":
        """Reads what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        path = folder / VOCABULARY
        values = read_json(path)
        names = values.pop("ngrams", None) if isinstance(values, dict) else None
        if not is_vocabulary(names):
            raise ArtifactError(f"{path} must have the list `ngrams` of distinct strings. Train the task again.")
        ngrams = cls(NgramsConfig.parse(values, str(path)), labels, task)
        num_scores = num_scores_of(task, labels)
        shapes = {"weight": (num_scores, len(names)), "bias": (num_scores,), "idf": (len(names),)}
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


def num_scores_of(task: LabeledTask, labels: Sequence[str]) -> int:
    """The number of scores per text: one per label, or one for `regress`."""
    return 1 if task == "regress" else len(labels)


def is_vocabulary(names: Any) -> bool:
    """Whether a value from a file is a list of distinct strings."""
    return isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def log_softmax(scores: Floats) -> Floats:
    """Log-probabilities (N, K), in nats, from scores (N, K)."""
    shifted = scores - scores.max(axis=1, keepdims=True, initial=-np.inf)
    normalized: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalized


def fit_linear(
    task: LabeledTask, features: Any, targets: Sequence[Any], labels: Sequence[str], strength: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Fits a linear model with an L2 penalty. Deterministic.

    Args:
        task: `classify`, `multilabel` or `regress`.
        features: (N, P), sparse or dense.
        targets: for each text its label, its labels, or its value. A label without a text gets a very low probability.
        labels: the K labels, sorted.
        strength: inverse of the penalty, C in scikit-learn.

    Returns:
        Weights (K, P) and biases (K,); K is 1 for `regress`.
    """
    with one_blas_thread():
        if task == "classify":
            weight, bias = fit_logistic(features, [str(label) for label in targets], labels, strength)
        elif task == "multilabel":
            rows = [_binary(features, np.array([label in own for own in targets]), strength) for label in labels]
            weight, bias = np.stack([row[0] for row in rows]), np.array([row[1] for row in rows])
        else:
            from sklearn.linear_model import Ridge

            values = np.array(targets, dtype=np.float64)
            ridge = Ridge(alpha=_RIDGE / strength, solver="lsqr", tol=1e-6).fit(features, values)
            weight, bias = ridge.coef_[None], np.array([ridge.intercept_])
    return weight.astype(np.float32), bias.astype(np.float32)


def fit_logistic(
    features: Any, targets: Sequence[str], labels: Sequence[str], strength: float, max_iterations: int = _MAX_ITERATIONS
) -> tuple[Any, Any]:
    """Fits a logistic regression on N texts or words, of which there is at least one. Deterministic.

    Args:
        features: (N, P), sparse or dense.
        targets: the N labels.
        labels: the K labels; those without a target get a very low probability.
        strength: inverse of the penalty, C in scikit-learn.
        max_iterations: of L-BFGS.

    Returns:
        Weights (K, P) and biases (K,), float32.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=max_iterations)
    if len(set(targets)) == 1:
        weight, bias, known = np.zeros((1, features.shape[1])), np.zeros(1), sorted(set(targets))
    else:
        model.fit(features, list(targets))
        weight, bias, known = model.coef_, model.intercept_, [str(label) for label in model.classes_]
    if len(weight) == 1 and len(known) == 2:  # the score of the second label against the first
        weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros(1), bias])
    rows = [list(labels).index(label) for label in known]
    every = np.zeros((len(labels), weight.shape[1]), dtype=np.float32)
    biases = np.full(len(labels), bias.min() - 20, dtype=np.float32)
    every[rows], biases[rows] = weight, bias
    return every, biases


def _binary(features: Any, has_label: npt.NDArray[np.bool_], strength: float) -> tuple[Any, float]:
    """Weights (P,) and bias of one label; of a label that all texts have, or none, only its smoothed log-odds."""
    from sklearn.linear_model import LogisticRegression

    count = int(has_label.sum())
    if count in (0, len(has_label)):
        return np.zeros(features.shape[1]), float(np.log((count + 0.5) / (len(has_label) - count + 0.5)))
    model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS).fit(features, has_label)
    return model.coef_[0], float(model.intercept_[0])
