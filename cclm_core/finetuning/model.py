"""The model of a task: an encoder, a head and, for labels and tags, counted n-grams. It predicts from strings."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor

from cclm_core.composition.long_texts import TextReader
from cclm_core.encoders.digest import weights_digest
from cclm_core.encoders.embedder import Base
from cclm_core.evaluation.spans import TagTransitions
from cclm_core.finetuning.any_model import AnyTaskModel, Floats, Prediction, Texts, groups
from cclm_core.finetuning.encoding import Encoding, padded
from cclm_core.finetuning.entities import entity_answers
from cclm_core.finetuning.ngrams import Ngrams, log_softmax
from cclm_core.finetuning.tag_ngrams import TagNgrams
from cclm_core.heads.base import Head, HeadContext
from cclm_core.heads.catalogue import HeadConfig
from cclm_core.heads.tags import Tags
from cclm_core.heads.texts import TextHead
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.config import Config, canonical_json
from cclm_core.runtime.device import device_of
from cclm_core.text.tagged_words import WordSpans, characters_of, words_of
from cclm_core.text.texts import strings

_BATCH_CHARACTERS = 16384


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

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Heads for tags that were saved before `word_layers` existed have no layers over words."""
        head = values.get("head") if isinstance(values, Mapping) else None
        if isinstance(head, Mapping) and head.get("head") == "tags" and "word_layers" not in head:
            return {**values, "head": {**head, "word_layers": 0}}
        return values

    @model_serializer(mode="wrap")
    def _write_older(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Writes such a head as it was, so that it keeps its digest."""
        values: dict[str, Any] = handler(self)
        if values["head"].get("word_layers") == 0:
            del values["head"]["word_layers"]
        return values

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


class TaskModel(AnyTaskModel):
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

    card: TaskCard

    def __init__(self, card: TaskCard, encoder: Base, head: Head, ngrams: Ngrams | TagNgrams | None = None) -> None:
        super().__init__()
        self.card, self.encoder, self.head, self.ngrams = card, encoder, head, ngrams
        self.preprocessor = encoder.preprocessor
        unit = head.config.unit if isinstance(head, Tags) else "word"
        self._encoding = Encoding(self.preprocessor, card.task, card.labels, card.max_characters, unit)

    @property
    def digest(self) -> str:
        """SHA-256 of the card, the vocabulary and the weights of encoder and head; for `tag`, also of the n-grams."""
        about = [self.card.canonical(), self.preprocessor.digest, self.encoder.digest]
        if isinstance(self.ngrams, TagNgrams):  # those of texts are left out: published models keep their digest
            about.append(self.ngrams.content.digest)
        return weights_digest(self.head, canonical_json(about))

    @property
    def width(self) -> int:
        """W, features per character."""
        return self.encoder.width

    @property
    def unit(self) -> str:
        """For `tag`, what has a tag: `word` or `character`."""
        return self._encoding.unit

    def predict(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Prediction]:
        """The answer to each text or pair; see `AnyTaskModel.predict`."""
        return [answer for group in groups(self._checked(texts)) for answer in self._predict(group)]

    def predict_words(self, texts: Sequence[str], words: Sequence[WordSpans]) -> list[Prediction]:
        """The entities of texts whose words are known, for `tag`; see `AnyTaskModel.predict_words`."""
        paired = list(zip(texts, words, strict=True))
        return [answer for group in groups(paired) for answer in self._entities(*zip(*group, strict=True))]

    def scores(self, texts: Texts, ngram_weight: float | None = None) -> Floats:
        """See `AnyTaskModel.scores`.

        Args:
            texts: the texts.
            ngram_weight: weight of the n-grams, if the model has some; None for that of the card.
        """
        if self.task == "tag":
            rows = [
                row
                for group in groups(list(zip(texts.texts, texts.words, strict=True)))
                for row in self._tag_rows([text for text, _ in group], [own for _, own in group], ngram_weight)[1]
            ]
            return np.concatenate([np.zeros((0, 1 + 2 * len(self.labels))), *rows]).astype(np.float64)
        if self.task == "classify" and not self.is_pair:
            return self.log_probabilities(texts.texts, ngram_weight)
        every = [
            self.head_scores(self._joined(group)) for group in groups(texts.pairs if self.is_pair else texts.texts)
        ]
        scores = torch.cat(every).double() if every else torch.zeros(0, max(1, len(self.labels))).double()
        if self.task == "regress":
            return np.asarray(scores * self.card.deviation + self.card.mean)
        return np.asarray(torch.log_softmax(scores, dim=-1) if self.task == "classify" else scores)

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
        own = torch.log_softmax(self.head_scores(texts).double(), dim=-1).numpy()
        if not weight or not isinstance(self.ngrams, Ngrams):
            return own
        joined = (own + weight * self.ngrams.log_probabilities(texts)) / (1 + weight)
        normalized: npt.NDArray[np.float64] = torch.log_softmax(torch.from_numpy(joined), dim=-1).numpy()
        return normalized

    def _predict(self, group: Sequence[Any]) -> list[Prediction]:
        if self.task == "tag":
            return self._entities(group, self.words_of(group))
        if self.task == "classify" and not self.is_pair:
            scores = torch.from_numpy(self.log_probabilities(group))
        else:
            scores = self.head_scores(self._joined(group))
        with torch.inference_mode():
            return self.head.answers(scores)

    def words_of(self, texts: Sequence[str]) -> list[WordSpans]:
        """The words or characters that get a tag each; for `tag`."""
        return [characters_of(text) if self.unit == "character" else words_of(text) for text in texts]

    def _joined(self, group: Sequence[Any]) -> list[str]:
        """Texts as `_scores` takes them: of pairs, all first texts and then all second ones."""
        return [text for pair in zip(*group, strict=True) for text in pair] if self.is_pair else list(group)

    def _features(self, texts: Sequence[str]) -> Iterator[Tensor]:
        """The features (L, W) float32 of each text, on the CPU."""
        reader = TextReader(
            self.encoder,
            window=self.card.max_characters,
            batch_characters=_BATCH_CHARACTERS,
            causal=self.encoder.causal,
        )
        self.encoder.eval()
        for group in groups(texts):
            yield from reader.whole([self.preprocessor.encode(text) for text in group], self.encoder.width)

    def head_scores(self, texts: Sequence[str]) -> Tensor:
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
        scores, probabilities = self._tag_rows(texts, words)
        return entity_answers(texts, words, scores, self.labels, probabilities, self._learned)

    def _tag_rows(
        self, texts: Sequence[str], words: Sequence[WordSpans], ngram_weight: float | None = None
    ) -> tuple[list[npt.NDArray[np.float32]], list[npt.NDArray[np.float32]]]:
        """For each text, what Viterbi reads and the log-probabilities, (words, 1 + 2K) each; equal without a CRF."""
        scores, probabilities = self._network_rows(texts, words)
        weight = self.card.ngram_weight if ngram_weight is None else ngram_weight
        if not weight or not isinstance(self.ngrams, TagNgrams) or not texts:
            return scores, probabilities
        read = Texts(texts, words=words)
        counted = read.by_text(self.ngrams.scores(read))
        joined = [
            log_softmax((own + weight * rows) / (1 + weight)).astype(np.float32)
            for own, rows in zip(probabilities, counted, strict=True)
        ]
        if self._learned is None:
            return joined, joined
        # The transitions have the weight 1, as the network does.
        added = [(own + weight * rows).astype(np.float32) for own, rows in zip(scores, counted, strict=True)]
        return added, joined

    def _network_rows(
        self, texts: Sequence[str], words: Sequence[WordSpans]
    ) -> tuple[list[npt.NDArray[np.float32]], list[npt.NDArray[np.float32]]]:
        """`_tag_rows` without n-grams."""
        assert isinstance(self.head, Tags)
        self.head.eval()
        every, probabilities = [], []
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
            every.append(scores)
            probabilities.append(known)
        return every, probabilities

    @property
    def _learned(self) -> TagTransitions | None:
        """The learned transitions of the head, if it has any."""
        if not isinstance(self.head, Tags) or self.head.transitions is None:
            return None
        values = self.head.transitions.state_dict()
        return TagTransitions(*(values[name].float().cpu().numpy() for name in TagTransitions._fields))
