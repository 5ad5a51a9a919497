"""The model of a task that consists of counted n-grams alone: `model: ngrams`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cclm_core.finetuning.any_model import AnyTaskModel, Floats, Prediction, Texts, groups, texts_of
from cclm_core.finetuning.config import NgramsConfig, TaskConfig
from cclm_core.finetuning.fit import TaskData
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.ngram_pairs import PairNgrams
from cclm_core.finetuning.ngrams import Ngrams, log_softmax
from cclm_core.finetuning.noised import noised_texts
from cclm_core.heads.answers import label_answers, multilabel_answers
from cclm_core.labeled.examples import LabeledTask, LabeledText
from cclm_core.noise.text import TextNoiser
from cclm_core.runtime.config import Config, digest
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.tagged_words import WordSpans

THRESHOLD = 0.5


class NgramsCard(Config):
    """Everything about the model except its n-grams and weights: task.json."""

    format: Literal["cclm-ngrams-1"] = "cclm-ngrams-1"
    name: str
    task: LabeledTask
    labels: tuple[str, ...] = ()
    is_pair: bool = False


class NgramsModel(AnyTaskModel):
    """Counted character n-grams with a linear model, for texts or pairs.

    Args:
        card: labels and kind of task.
        ngrams: the fitted n-grams.
    """

    card: NgramsCard
    no_vectors = "it consists of counted n-grams. Embed with a task that has a network, or with a composition."

    def __init__(self, card: NgramsCard, ngrams: Ngrams | PairNgrams) -> None:
        super().__init__()
        self.card, self.ngrams = card, ngrams

    @property
    def digest(self) -> str:
        """SHA-256 of the card, the n-grams and the weights."""
        return digest([self.card.canonical(), self.ngrams.content.digest])

    @property
    def num_ngrams(self) -> int:
        """The number of n-grams."""
        names: list[Any] = self.ngrams.content.values["ngrams"]
        return sum(map(len, names)) if self.is_pair else len(names)

    def predict(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Prediction]:
        """The answer to each text or pair; see `AnyTaskModel.predict`."""
        parts = [Texts.of(group, self.is_pair) for group in groups(self._checked(texts))]
        return [answer for part in parts for answer in self._answers(self.scores(part))]

    def predict_words(self, texts: Sequence[str], words: Sequence[WordSpans]) -> list[Prediction]:
        """N-grams tag no words."""
        raise AssertionError(f"n-grams tag no words, but {len(texts)} texts with {len(words)} lists were passed")

    def scores(self, texts: Texts) -> Floats:
        """See `AnyTaskModel.scores`."""
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
        kind = PairNgrams if card.is_pair else Ngrams
        return cls(card, kind.load(folder, card.labels, card.task))

    def _answers(self, scores: Floats) -> list[Prediction]:
        if self.task == "regress":
            return [{"value": value} for value in scores[:, 0].tolist()]
        if self.task == "multilabel":
            return multilabel_answers(torch.from_numpy(scores), self.labels, THRESHOLD)
        return label_answers(torch.from_numpy(scores), self.labels)


def fit_ngrams(name: str, data: TaskData, config: TaskConfig, seed: int = 1) -> tuple[NgramsModel, dict[str, float]]:
    """Fits the model on the training texts, and on noised copies of them if `noised_copies` has rates.

    Args:
        name: the name of the task.
        data: the labeled texts.
        config: the configuration, with `model: ngrams`.
        seed: seed of the noise.

    Returns:
        The model, and its metrics on the validation texts, if there are any.

    Raises:
        ConfigError: the task is `tag`.
    """
    if data.task == "tag":
        raise ConfigError(
            f"tasks.{name}: model: ngrams cannot tag words. Remove the task, or leave out `model` to train a network."
        )
    settings = config.ngrams or NgramsConfig()
    card = NgramsCard(name=name, task=data.task, labels=data.labels, is_pair=data.is_pair)
    rows = list(data.train)
    for rate in config.noised_copies:
        rows += noised_texts(data.train, TextNoiser(config.noise.recipe(rate)), seed, f"copy {rate:g}")
    kind = PairNgrams if data.is_pair else Ngrams
    ngrams: Any = kind(settings, data.labels, data.task)
    inputs = [(row.text, str(row.second)) for row in rows] if data.is_pair else [row.text for row in rows]
    model = NgramsModel(card, ngrams.fit(inputs, [_target(row, data.task) for row in rows]))
    known = [text for text in data.validation if data.task != "classify" or text.label in data.labels]
    if not known:
        return model, {}
    texts = texts_of(model, known)
    measured = measure(data.task, known, model.predict(texts.pairs if data.is_pair else texts.texts))
    headline = HEADLINES[data.task]
    return model, {f"held_out_{headline}": float(np.float64(measured[headline].value))}


def _target(text: LabeledText, task: LabeledTask) -> Any:
    return {"classify": text.label, "multilabel": text.labels, "regress": text.value}[task]
