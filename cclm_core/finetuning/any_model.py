"""What all models of tasks have in common: a network, counted n-grams, and an ensemble answer the same calls."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch import nn

from cclm_core.labeled.examples import LabeledTask, LabeledText
from cclm_core.runtime.errors import DataError
from cclm_core.text.tagged_words import WordSpans
from cclm_core.text.texts import strings

GROUP = 256  # texts read at once

T = TypeVar("T")

Floats = npt.NDArray[np.float64]

Prediction = dict[str, Any]
"""The answer to one text, as JSON values; see `AnyTaskModel.predict`."""


@dataclass(frozen=True)
class Texts:
    """Texts to score.

    Args:
        texts: N strings.
        seconds: the second texts of pairs; empty if the task is not on pairs.
        words: for `tag`, start and end (excluded) of each word of each text; empty otherwise.
    """

    texts: Sequence[str]
    seconds: Sequence[str] = ()
    words: Sequence[WordSpans] = ()

    @classmethod
    def of(cls, examples: Sequence[Any], is_pair: bool, words: Sequence[WordSpans] = ()) -> "Texts":
        """Strings, or pairs of strings."""
        if is_pair:
            return cls([first for first, _ in examples], [second for _, second in examples])
        return cls(list(examples), words=words)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The texts with their second ones."""
        return list(zip(self.texts, self.seconds, strict=True))

    def owners(self, task: LabeledTask) -> npt.NDArray[np.int64]:
        """The number of the text of each row of scores, (R,)."""
        numbers = np.arange(len(self.texts))
        return np.repeat(numbers, [len(words) for words in self.words]) if task == "tag" else numbers

    def by_text(self, rows: Floats) -> list[Floats]:
        """The rows (R, K) of all words, by text; for `tag`."""
        return np.split(rows, np.cumsum([len(words) for words in self.words])[:-1]) if self.words else []


class AnyTaskModel(nn.Module, ABC):
    """Predicts labels, numbers or entities from strings of any length, empty ones included.

    The result for a text does not depend on the other texts of the call.
    """

    card: Any  # the configuration of each kind of model, with `name`, `task`, `labels` and `is_pair`

    @property
    def name(self) -> str:
        """The name of the task or ensemble."""
        return str(self.card.name)

    @property
    def task(self) -> LabeledTask:
        """`classify`, `multilabel`, `regress` or `tag`."""
        task: LabeledTask = self.card.task
        return task

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, sorted; entity labels for `tag`, none for `regress`."""
        return tuple(self.card.labels)

    @property
    def is_pair(self) -> bool:
        """Whether each example has two texts."""
        return bool(self.card.is_pair)

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the model."""

    @property
    def width(self) -> int:
        """W, numbers in a vector of `embed`; 0 if the model has no vectors."""
        return 0

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:  # noqa: ARG002
        """The vector of each text, (N, W) float32.

        Raises:
            DataError: the model has no vectors.
        """
        raise DataError(f"{self.name} has no vectors: {self.no_vectors}")

    no_vectors = "only networks have. Embed with a task that has a network, or with a composition."
    """Why `embed` is refused, and what to do."""

    @abstractmethod
    def predict(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Prediction]:
        """The answer to each text or pair.

        ```
        classify     {"label": "refund", "score": 0.93, "scores": {"refund": 0.93, "billing": 0.05, ...}}
        multilabel   {"labels": ["a", "c"], "scores": {"a": 0.9, "b": 0.1, "c": 0.7}}
        regress      {"value": 3.2}
        tag          {"entities": [{"start": 0, "end": 4, "label": "PER", "text": "Anna", "score": 0.98}]}
        ```

        Args:
            texts: strings; for pairs, tuples or lists of two strings.

        Raises:
            DataError: not strings, not pairs, or a lone surrogate; the message gives the index.
        """

    @abstractmethod
    def predict_words(self, texts: Sequence[str], words: Sequence[WordSpans]) -> list[Prediction]:
        """The entities of texts whose words are known, for `tag`.

        Args:
            texts: N strings.
            words: start and end (excluded) of each word of each text, in characters.
        """

    @abstractmethod
    def scores(self, texts: Texts) -> Floats:
        """What ensembles join, in a row per text, or per word for `tag`.

        ```
        classify     (N, K) log-probabilities of the labels
        multilabel   (N, K) log-odds of the labels
        regress      (N, 1) values
        tag          (R, 1 + 2K) log-probabilities of the tags of all R words
        ```
        """

    def words_of(self, texts: Sequence[str]) -> list[WordSpans]:
        """The words that get a tag each, if nothing else is known of the texts; for `tag`."""
        raise AssertionError(f"{self.name} has no tags, but the words of {len(texts)} texts were asked for")

    def _checked(self, texts: Sequence[Any]) -> list[Any]:
        if not self.is_pair:
            return list(strings(texts))
        pairs = []
        for index, pair in enumerate(texts):
            if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise DataError(
                    f"the task {self.name} is on pairs: item {index} must be two strings, got {pair!r:.80}."
                )
            pairs.append(tuple(strings(list(pair))))
        return pairs


def texts_of(model: AnyTaskModel, examples: Sequence[LabeledText]) -> Texts:
    """Labeled texts as a model reads them: with their own words if all have some."""
    texts = [example.text for example in examples]
    if model.task == "tag":
        known = all(example.words for example in examples)
        return Texts(texts, words=[example.words for example in examples] if known else model.words_of(texts))
    return Texts(texts, [str(example.second) for example in examples] if model.is_pair else ())


def groups(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Groups of items that are read at once."""
    return (items[start : start + GROUP] for start in range(0, len(items), GROUP))
