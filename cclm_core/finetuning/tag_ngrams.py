"""Counted n-grams that tag words: each word and its neighbors with a linear model, saved without pickle."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cclm_core.encoders.weights import read_header, read_weights
from cclm_core.evaluation.linear_probe import one_blas_thread
from cclm_core.finetuning.any_model import Floats, Texts
from cclm_core.finetuning.config import NgramsConfig
from cclm_core.finetuning.ngrams import (
    MANY_TEXTS,
    VOCABULARY,
    WEIGHTS,
    Content,
    fit_logistic,
    is_vocabulary,
    log_softmax,
)
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ArtifactError

Words = Sequence[str]
Strings = Sequence[str]

_OFFSETS = (-2, -1, 1, 2)  # of the neighbors; one or three on each side are worse on conll2003
# Lengths of the vectors of each group. On 1,200 validation sentences of conll2003, after training on 200: twice or half
# of one of them is 0.4 to 1.7 points of F1 worse, mean over three seeds, without normalization it is 7 points worse.
_LENGTHS = {"characters": 1.0, "shapes": 0.5, "neighbors": 0.5, "context": 0.5}
_MAX_ITERATIONS = 200
_BLOCK = 4096  # words whose features are in memory at once
_START, _END = "\x02", "\x03"  # boundaries of words and texts; noise never adds them


class _Words(NamedTuple):
    """The words of N texts.

    Attributes:
        distinct: D different words.
        own: (R,) the number of each word among them.
        near: (R, 4) those of its neighbors; D where the text ends.
        context: for each word, features of the words around it.
    """

    distinct: list[str]
    own: npt.NDArray[np.int64]
    near: npt.NDArray[np.int64]
    context: list[list[str]]


class TagNgrams:
    """Character n-grams and shapes of a word, its neighbors, and pairs of words; logistic regression on them.

    One model decides between outside and the K labels, a second one whether a word begins an entity: all labels share
    it, because few training texts have two entities without a word between them.

    Args:
        config: sizes of the n-grams, number of features of each group, penalty.
        labels: the K entity labels, sorted.
    """

    def __init__(self, config: NgramsConfig, labels: Sequence[str]) -> None:
        self.config, self.labels = config, tuple(labels)
        self._vectorizers: dict[str, Any] = {}
        self._arrays: dict[str, npt.NDArray[np.float32]] = {}

    def fit(self, texts: Texts, tags: Sequence[int]) -> "TagNgrams":
        """Fits on the R words of N texts with their tags: 0 is O, 1 + 2k is B of label k, 2 + 2k is I of label k."""
        words = _words(texts)
        self._vectorizers = dict(self._fitted(words, min_count=2 if len(texts.texts) > MANY_TEXTS else 1))
        gold = np.array(tags, dtype=np.int64)
        inside = gold > 0
        with one_blas_thread():
            features = self._features(words, slice(None))
            label, bias = self._logistic(features, (gold + 1) // 2, 1 + len(self.labels))
            begins, bias_of_begins = self._logistic(features[inside], gold[inside] % 2, 2)
        self._arrays = {"label": label, "label_bias": bias, "begins": begins, "begins_bias": bias_of_begins}
        return self

    def scores(self, texts: Texts) -> Floats:
        """Log-probabilities (R, 1 + 2K) of the tags of all R words, in nats."""
        words = _words(texts)
        scores = np.zeros((len(words.own), 1 + 2 * len(self.labels)))
        arrays = {name: array.astype(np.float64) for name, array in self._arrays.items()}
        with one_blas_thread():
            for start in range(0, len(scores), _BLOCK):
                rows = slice(start, start + _BLOCK)
                features = self._features(words, rows)
                label = log_softmax(np.asarray(features @ arrays["label"].T) + arrays["label_bias"])
                begins = log_softmax(np.asarray(features @ arrays["begins"].T) + arrays["begins_bias"])
                scores[rows, 0] = label[:, 0]
                scores[rows, 1::2] = label[:, 1:] + begins[:, 1:]
                scores[rows, 2::2] = label[:, 1:] + begins[:, :1]
        return scores

    @property
    def content(self) -> Content:
        """What is saved."""
        names = {group: _names(vectorizer) for group, vectorizer in self._vectorizers.items()}
        return Content({**self.config.canonical(), "ngrams": names}, self._arrays)

    @property
    def num_features(self) -> int:
        """The number of n-grams and other features."""
        return sum(len(vectorizer.vocabulary_) for vectorizer in self._vectorizers.values())

    def save(self, folder: Path) -> None:
        """Writes the features and the weights."""
        self.content.save(folder)

    @classmethod
    def load(cls, folder: Path, labels: Sequence[str]) -> "TagNgrams":
        """Reads what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        path = folder / VOCABULARY
        values = read_json(path)
        names = values.pop("ngrams", None) if isinstance(values, dict) else None
        if not isinstance(names, dict) or set(names) != set(_LENGTHS) or not all(map(is_vocabulary, names.values())):
            raise ArtifactError(
                f"{path} must have lists of distinct `ngrams` for {', '.join(_LENGTHS)}. Train the task again."
            )
        ngrams = cls(NgramsConfig.parse(values, str(path)), labels)
        ngrams._vectorizers = {group: ngrams._vectorizer(group, names[group]) for group in _LENGTHS}
        width = sum(len(names[group]) * (len(_OFFSETS) if group == "neighbors" else 1) for group in _LENGTHS)
        shapes: dict[str, tuple[int, ...]] = {"label": (1 + len(labels), width), "label_bias": (1 + len(labels),)}
        shapes |= {"begins": (2, width), "begins_bias": (2,)}
        read_header(folder / WEIGHTS)
        expected = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        weights = read_weights(folder / WEIGHTS, expected, str(path))
        ngrams._arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        return ngrams

    def _logistic(self, features: Any, targets: npt.NDArray[np.int64], number: int) -> tuple[Any, Any]:
        """Weights (number, P) and biases (number,) of classes; zeros if there is nothing to fit on."""
        if not len(targets):
            return np.zeros((number, features.shape[1]), np.float32), np.zeros(number, np.float32)
        classes = [str(name) for name in range(number)]
        gold = [classes[target] for target in targets]
        return fit_logistic(features, gold, classes, self.config.strength, _MAX_ITERATIONS)

    def _fitted(self, words: _Words, min_count: int) -> Iterator[tuple[str, Any]]:
        """Each group with its vectorizer, whose features are the most frequent ones."""
        counts = np.bincount(words.own, minlength=len(words.distinct)).tolist()
        for group in _LENGTHS:
            found: Counter[str] = Counter()
            if group == "context":
                found.update(feature for features in words.context for feature in features)
            else:
                for word, number in zip(words.distinct, counts, strict=True):
                    found.update(dict.fromkeys(self._of_word(group, word), number))
            frequent = sorted(found.items(), key=lambda item: (-item[1], item[0]))[: self.config.max_features]
            yield group, self._vectorizer(group, sorted(name for name, number in frequent if number >= min_count))

    def _vectorizer(self, group: str, names: Strings) -> Any:
        from sklearn.feature_extraction.text import CountVectorizer

        def analyzer(item: Any) -> Iterable[str]:
            """The features of a word, or those of a context as they are."""
            return item if group == "context" else self._of_word(group, item)

        vocabulary = {name: number for number, name in enumerate(names)}
        vectorizer = CountVectorizer(analyzer=analyzer, vocabulary=vocabulary, binary=True, dtype=np.float64)
        vectorizer.vocabulary_ = vocabulary  # so that it can be empty, too
        return vectorizer

    def _of_word(self, group: str, word: str) -> list[str]:
        if group == "characters":
            return character_ngrams(word.lower(), *self.config.sizes)
        return _shapes(word) if group == "shapes" else _of_neighbor(word)

    def _features(self, words: _Words, rows: slice) -> Any:
        """The features (R, P) of words, sparse."""
        from scipy import sparse
        from sklearn.preprocessing import normalize

        def vectors(group: str, items: Sequence[Any]) -> Any:
            """The normalized features of a group."""
            vectorizer = self._vectorizers[group]
            if not items or not vectorizer.vocabulary_:
                return sparse.csr_matrix((len(items), len(vectorizer.vocabulary_)))
            return normalize(vectorizer.transform(items)) * _LENGTHS[group]

        own, near = words.own[rows], words.near[rows]
        used, places = np.unique(np.concatenate([own[:, None], near], axis=1), return_inverse=True)
        places = places.reshape(len(own), 1 + len(_OFFSETS))
        distinct = [words.distinct[number] if number < len(words.distinct) else "" for number in used]
        neighbors = vectors("neighbors", distinct)
        columns = [vectors(group, distinct)[places[:, 0]] for group in ("characters", "shapes")]
        columns += [neighbors[places[:, 1 + number]] for number in range(len(_OFFSETS))]
        return sparse.hstack([*columns, vectors("context", words.context[rows])]).tocsr()


def character_ngrams(word: str, shortest: int, longest: int) -> list[str]:
    """The n-grams of a word with its boundaries.

    >>> [name.replace("\\x02", "<").replace("\\x03", ">") for name in character_ngrams("ab", 2, 3)]
    ['<a', 'ab', 'b>', '<ab', 'ab>']
    """
    marked = f"{_START}{word}{_END}"
    return [
        marked[start : start + size] for size in range(shortest, longest + 1) for start in range(len(marked) - size + 1)
    ]


def shape_of(word: str) -> str:
    """Capitals as X, other letters as x, digits as 0.

    >>> shape_of("McDonald's-2003")
    "XxXxxxxx'x-0000"
    """
    return "".join(map(_kind_of, word))


def _kind_of(mark: str) -> str:
    if mark.isalpha():
        return "X" if mark.isupper() else "x"
    return "0" if mark.isdigit() else mark


def short_shape_of(word: str) -> str:
    """The shape with every run of a sign as one and `+`.

    >>> short_shape_of("McDonald's-2003")
    "XxXx+'x-0+"
    """
    return re.sub(r"(.)\1+", r"\1+", shape_of(word), flags=re.DOTALL)


def _shapes(word: str) -> list[str]:
    return [f"s={shape_of(word)[:10]}", f"k={short_shape_of(word)}", f"w={word.lower()}", f"l={min(len(word), 10)}"]


def _of_neighbor(word: str) -> list[str]:
    """Nothing for the end of a text, which is given as the empty string."""
    if not word:
        return []
    lower = word.lower()
    return [f"w={lower}", f"p={lower[:3]}", f"u={lower[-3:]}", f"k={short_shape_of(word)}"]


def _words(texts: Texts) -> _Words:
    numbers: dict[str, int] = {}
    rows: list[list[int]] = []
    context: list[list[str]] = []
    for text, spans in zip(texts.texts, texts.words, strict=True):
        words = [text[start:end] for start, end in spans]
        rows.append([numbers.setdefault(word, len(numbers)) for word in words])
        context += _contexts(words)
    reach, end = max(_OFFSETS), len(numbers)
    near = [
        padded[reach + place + offset]
        for row in rows
        for padded in [[end] * reach + row + [end] * reach]
        for place in range(len(row))
        for offset in _OFFSETS
    ]
    own = np.array([number for row in rows for number in row], dtype=np.int64)
    return _Words(list(numbers), own, np.array(near, dtype=np.int64).reshape(-1, len(_OFFSETS)), context)


def _contexts(words: Words) -> list[list[str]]:
    """For each word of a text, what is only visible in several words: pairs, their shapes, and the place."""
    lower = [_START, *(word.lower() for word in words), _END]
    shapes = [_START, *map(short_shape_of, words), _END]
    is_capitals = not any(mark.islower() for word in words for mark in word)
    contexts = []
    for place in range(len(words)):
        before, own, after = lower[place : place + 3]
        shape_before, shape, shape_after = shapes[place : place + 3]
        features = [f"b1={before} {own}", f"b2={own} {after}", f"b3={before} {after}"]
        features += [
            f"s1={shape_before} {shape}",
            f"s2={shape} {shape_after}",
            f"s3={shape_before} {shape} {shape_after}",
        ]
        features += ["capitals"] if is_capitals else []
        features += ["first", f"first {shape}"] if place == 0 else []
        contexts.append(features)
    return contexts


def _names(vectorizer: Any) -> list[str]:
    return sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
