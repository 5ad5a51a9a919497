"""The model of a task: an encoder, a head and, for labels, counted n-grams. It predicts from strings."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.composition.long_texts import TextReader
from cclm_core.encoders.embedder import Base, weights_digest
from cclm_core.evaluation.spans import Tagging, TagTransitions, best_tags, tags_to_spans
from cclm_core.finetuning.encoding import Encoding, padded
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.heads.base import Head, HeadContext
from cclm_core.heads.catalogue import HeadConfig
from cclm_core.heads.tags import Tags
from cclm_core.heads.texts import TextHead
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.config import Config, canonical_json
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import DataError
from cclm_core.text.tagged_words import WordSpans, characters_of, words_of
from cclm_core.text.texts import strings

_GROUP = 256  # texts read at once
_BATCH_CHARACTERS = 16384

T = TypeVar("T")

Prediction = dict[str, Any]
"""The answer to one text, as JSON values; see `TaskModel.predict`."""


class TaskCard(Config):
    """Everything about the model of a task except its weights: task.json."""

    format: Literal["cclm-task-1"] = "cclm-task-1"
    name: str
    task: LabeledTask
    labels: tuple[str, ...] = ()
    is_pair: bool = False
    head: HeadConfig
    mean: float = Field(default=0.0, description="mean of the values in training, for regression")
    deviation: float = Field(default=1.0, gt=0, description="standard deviation of the values in training")
    max_characters: int = Field(default=512, ge=16, description="ids per window; longer texts are read in windows")
    ngram_weight: float = Field(default=0.0, ge=0, description="weight of the n-grams; 0: there are none")

    def context(self, encoder: Base, weights: tuple[float, ...] | None = None) -> HeadContext:
        """The context for building the head over the features of `encoder`."""
        return HeadContext(
            width=encoder.width,
            labels=self.labels,
            is_pair=self.is_pair,
            weights=weights,
            mean=self.mean,
            deviation=self.deviation,
            alphabet=encoder.preprocessor.alphabet,
        )


class TaskModel(nn.Module):
    """Predicts labels, numbers or entities from strings of any length, empty ones included.

    The result for a text does not depend on the other texts of the call.

    >>> model = load_task("models/tasks/intent")                  # doctest: +SKIP
    >>> model.predict(["my card did not arive"])[0]["label"]      # doctest: +SKIP
    'card_arrival'

    Args:
        card: labels, head and settings.
        encoder: the embedder or composition, in evaluation mode.
        head: the head.
        ngrams: the n-grams, if `card.ngram_weight` is above 0.
    """

    def __init__(self, card: TaskCard, encoder: Base, head: Head, ngrams: Ngrams | None = None) -> None:
        super().__init__()
        self.card, self.encoder, self.head, self.ngrams = card, encoder, head, ngrams
        self.preprocessor = encoder.preprocessor
        unit = head.config.unit if isinstance(head, Tags) else "word"
        self._encoding = Encoding(self.preprocessor, card.task, card.labels, card.max_characters, unit)

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.card.name

    @property
    def task(self) -> LabeledTask:
        """`classify`, `multilabel`, `regress` or `tag`."""
        return self.card.task

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, sorted; entity labels for `tag`, none for `regress`."""
        return self.card.labels

    @property
    def is_pair(self) -> bool:
        """Whether each example has two texts."""
        return self.card.is_pair

    @property
    def digest(self) -> str:
        """SHA-256 of the card, the vocabulary and the weights of encoder and head."""
        about = canonical_json([self.card.canonical(), self.preprocessor.digest, self.encoder.digest])
        return weights_digest(self.head, about)

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
        return [answer for group in _groups(self._checked(texts)) for answer in self._predict(group)]

    def predict_words(self, texts: Sequence[str], words: Sequence[WordSpans]) -> list[Prediction]:
        """The entities of texts whose words are known, for `tag`.

        Args:
            texts: N strings.
            words: start and end (excluded) of each word of each text, in characters.
        """
        paired = list(zip(texts, words, strict=True))
        return [answer for group in _groups(paired) for answer in self._entities(*zip(*group, strict=True))]

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """The mean of the features of each text's characters, (N, W) float32; zeros for an empty text."""
        result = np.zeros((len(texts), self.encoder.width), dtype=np.float32)
        for row, features in enumerate(self._features(list(strings(texts)))):
            if len(features):
                result[row] = features.mean(0).numpy()
        return result

    def log_probabilities(self, texts: Sequence[str], ngram_weight: float | None = None) -> npt.NDArray[np.float64]:
        """For `classify` without pairs: log-probabilities (N, K) of the labels.

        Args:
            texts: N strings.
            ngram_weight: weight of the n-grams; None for that of the card.
        """
        weight = self.card.ngram_weight if ngram_weight is None else ngram_weight
        own = torch.log_softmax(self.scores(texts).double(), dim=-1).numpy()
        if not weight or self.ngrams is None:
            return own
        joined = (own + weight * self.ngrams.log_probabilities(texts)) / (1 + weight)
        normalized: npt.NDArray[np.float64] = torch.log_softmax(torch.from_numpy(joined), dim=-1).numpy()
        return normalized

    def _predict(self, group: Sequence[Any]) -> list[Prediction]:
        if self.task == "tag":
            unit = self._encoding.unit
            return self._entities(
                group, [characters_of(text) if unit == "character" else words_of(text) for text in group]
            )
        if self.task == "classify" and not self.is_pair:
            scores = torch.from_numpy(self.log_probabilities(group))
        else:
            texts = [text for pair in zip(*group, strict=True) for text in pair] if self.is_pair else list(group)
            scores = self.scores(texts)
        with torch.inference_mode():
            return self.head.answers(scores)

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

    def _features(self, texts: Sequence[str]) -> Iterator[Tensor]:
        """The features (L, W) float32 of each text, on the CPU."""
        reader = TextReader(
            self.encoder,
            window=self.card.max_characters,
            batch_characters=_BATCH_CHARACTERS,
            causal=self.encoder.causal,
        )
        self.encoder.eval()
        for group in _groups(texts):
            yield from reader.whole([self.preprocessor.encode(text) for text in group], self.encoder.width)

    def scores(self, texts: Sequence[str]) -> Tensor:
        """Scores (N, K) of texts, or of pairs given as all first texts and then all second ones."""
        assert isinstance(self.head, TextHead)
        self.head.eval()
        device, pooled = device_of(self.head), []
        with torch.inference_mode():
            for features in self._features(texts):
                mask = torch.ones(1, len(features), dtype=torch.bool, device=device)
                pooled.append(self.head.pooling(features[None].to(device), mask))
            if not pooled:
                return torch.zeros(0, self.head.linear.out_features)
            ids = None
            if self.head.similarity is not None:
                ids = padded([self.preprocessor.encode(text) for text in texts]).to(device)
            return self.head.classify(self.head.joined(torch.cat(pooled), ids)).float().cpu()

    def _entities(self, texts: Sequence[str], words: Sequence[WordSpans]) -> list[Prediction]:
        assert isinstance(self.head, Tags)
        self.head.eval()
        taggings, probabilities = [], []
        for text, spans, features in zip(texts, words, self._features(texts), strict=True):
            _, starts, stops = self._encoding.word_positions(text, spans)
            scores = known = np.zeros((0, 1 + 2 * len(self.labels)), dtype=np.float32)
            if len(spans):
                positions = {"row": np.zeros_like(starts), "start": starts, "stop": stops}
                targets = {name: torch.from_numpy(values) for name, values in positions.items()}
                with torch.inference_mode():
                    row = features[None].to(device_of(self.head))
                    mask = torch.ones(row.shape[:2], dtype=torch.bool, device=row.device)
                    read = self.head(row, mask, targets).float()
                    known = self.head.log_probabilities(read, targets["row"].to(row.device)).cpu().numpy()
                    scores = known if self.head.transitions is None else read.cpu().numpy()
            taggings.append(Tagging(scores, np.ones(len(spans) + 1, dtype=bool), np.zeros(len(spans), dtype=bool)))
            probabilities.append(known)
        best = best_tags(taggings, _learned(self.head))
        return [
            {"entities": [self._entity(text, spans, known, span) for span in tags_to_spans(tags)]}
            for text, spans, known, tags in zip(texts, words, probabilities, best, strict=True)
        ]

    def _entity(
        self, text: str, words: WordSpans, probabilities: npt.NDArray[np.float32], span: tuple[int, int, int]
    ) -> Prediction:
        first, last, label = span
        start, end = words[first][0], words[last - 1][1]
        tags = [1 + 2 * label, *([2 + 2 * label] * (last - first - 1))]
        score = float(np.exp(probabilities[range(first, last), tags].mean()))
        return {"start": start, "end": end, "label": self.labels[label], "text": text[start:end], "score": score}


def _groups(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _GROUP] for start in range(0, len(items), _GROUP))


def _learned(head: Tags) -> TagTransitions | None:
    if head.transitions is None:
        return None
    values = head.transitions.state_dict()
    return TagTransitions(*(values[name].float().cpu().numpy() for name in TagTransitions._fields))
