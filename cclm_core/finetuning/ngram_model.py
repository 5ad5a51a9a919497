"""The model of a task that consists of counted n-grams alone: `model: ngrams`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import SerializerFunctionWrapHandler, model_serializer

from cclm_core.finetuning.any_model import AnyTaskModel, Floats, Prediction, Texts, groups, texts_of
from cclm_core.finetuning.config import NgramsConfig, TaskConfig
from cclm_core.finetuning.ensemble import answers_from
from cclm_core.finetuning.fit import TaskData
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.ngram_pairs import PairNgrams
from cclm_core.finetuning.ngrams import Ngrams, log_softmax
from cclm_core.finetuning.noised import noised_texts
from cclm_core.finetuning.tag_ngrams import TagNgrams
from cclm_core.finetuning.words import tagged_units
from cclm_core.heads.tags import TagsConfig
from cclm_core.labeled.examples import LabeledTask, LabeledText
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.config import Config, digest
from cclm_core.text.tagged_words import WordSpans, characters_of, words_of

THRESHOLD = 0.5


class NgramsCard(Config):
    """Everything about the model except its n-grams and weights: task.json."""

    format: Literal["cclm-ngrams-1"] = "cclm-ngrams-1"
    name: str
    task: LabeledTask
    labels: tuple[str, ...] = ()
    is_pair: bool = False
    unit: Literal["word", "character"] = "word"

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out the unit of words: models of texts keep their digest."""
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name != "unit" or value != "word"}


class NgramsModel(AnyTaskModel):
    """Counted character n-grams with a linear model, for texts, pairs or tags.

    Args:
        card: labels and kind of task.
        ngrams: the fitted n-grams.
    """

    card: NgramsCard
    no_vectors = "it consists of counted n-grams. Embed with a task that has a network, or with a composition."

    def __init__(self, card: NgramsCard, ngrams: Ngrams | PairNgrams | TagNgrams) -> None:
        super().__init__()
        self.card, self.ngrams = card, ngrams

    @property
    def digest(self) -> str:
        """SHA-256 of the card, the n-grams and the weights."""
        return digest([self.card.canonical(), self.ngrams.content.digest])

    @property
    def num_ngrams(self) -> int:
        """The number of n-grams; for `tag`, with the other features of words."""
        if isinstance(self.ngrams, TagNgrams):
            return self.ngrams.num_features
        names: list[Any] = self.ngrams.content.values["ngrams"]
        return sum(map(len, names)) if self.is_pair else len(names)

    def predict(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Prediction]:
        """The answer to each text or pair; see `AnyTaskModel.predict`."""
        return [
            answer
            for group in groups(self._checked(texts))
            for answer in self._answers(
                Texts.of(group, self.is_pair, self.words_of(group) if self.task == "tag" else ())
            )
        ]

    def predict_words(self, texts: Sequence[str], words: Sequence[WordSpans]) -> list[Prediction]:
        """The entities of texts whose words are known, for `tag`; see `AnyTaskModel.predict_words`."""
        return [
            answer
            for group in groups(list(zip(texts, words, strict=True)))
            for answer in self._answers(Texts([text for text, _ in group], words=[own for _, own in group]))
        ]

    def words_of(self, texts: Sequence[str]) -> list[WordSpans]:
        """The words or characters that get a tag each; for `tag`."""
        return [characters_of(text) if self.card.unit == "character" else words_of(text) for text in texts]

    def scores(self, texts: Texts) -> Floats:
        """See `AnyTaskModel.scores`."""
        if isinstance(self.ngrams, TagNgrams):
            return self.ngrams.scores(texts)
        if isinstance(self.ngrams, PairNgrams):
            scores = self.ngrams.scores(texts.pairs)
        else:
            scores = self.ngrams.scores(texts.texts)
        return log_softmax(scores) if self.task == "classify" else scores

    def save(self, folder: Path) -> None:
        """Writes the n-grams and the weights."""
        self.ngrams.save(folder)

    @classmethod
    def load(cls, card: NgramsCard, folder: Path) -> "NgramsModel":
        """Reads what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        if card.task == "tag":
            return cls(card, TagNgrams.load(folder, card.labels))
        kind = PairNgrams if card.is_pair else Ngrams
        return cls(card, kind.load(folder, card.labels, card.task))

    def _answers(self, texts: Texts) -> list[Prediction]:
        return answers_from(self.task, self.labels, self.scores(texts), texts, THRESHOLD)


def fit_ngrams(name: str, data: TaskData, config: TaskConfig, seed: int = 1) -> tuple[NgramsModel, dict[str, float]]:
    """Fits the model on the training texts, and on noised copies of them if `noised_copies` has rates.

    Args:
        name: the name of the task.
        data: the labeled texts.
        config: the configuration, with `model: ngrams`.
        seed: seed of the noise.

    Returns:
        The model, and its metrics on the validation texts, if there are any.
    """
    settings = config.ngrams or NgramsConfig()
    unit = config.head.unit if isinstance(config.head, TagsConfig) else "word"
    card = NgramsCard(name=name, task=data.task, labels=data.labels, is_pair=data.is_pair, unit=unit)
    rows = list(data.train)
    for rate in config.noised_copies:
        rows += noised_texts(data.train, TextNoiser(config.noise.recipe(rate)), seed, f"copy {rate:g}")
    model = NgramsModel(card, _fitted(card, settings, rows))
    known = [text for text in data.validation if data.task != "classify" or text.label in data.labels]
    if not known:
        return model, {}
    measured = measure(data.task, known, model._answers(texts_of(model, known)))
    headline = HEADLINES[data.task]
    return model, {f"held_out_{headline}": float(np.float64(measured[headline].value))}


def _fitted(card: NgramsCard, config: NgramsConfig, rows: Sequence[LabeledText]) -> Ngrams | PairNgrams | TagNgrams:
    if card.task == "tag":
        return TagNgrams(config, card.labels).fit(*tagged_units(rows, card.unit, card.labels))
    targets = [_target(row, card.task) for row in rows]
    if card.is_pair:
        pairs = [(row.text, str(row.second)) for row in rows]
        return PairNgrams(config, card.labels, card.task).fit(pairs, targets)
    return Ngrams(config, card.labels, card.task).fit([row.text for row in rows], targets)


def _target(text: LabeledText, task: LabeledTask) -> Any:
    return {"classify": text.label, "multilabel": text.labels, "regress": text.value}[task]
