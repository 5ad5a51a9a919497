"""What an ensemble is chosen on: the scores of every part on validation texts, clean and as noised copies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cclm_core.evaluation.fusing import Rows
from cclm_core.evaluation.metrics import Measurement
from cclm_core.evaluation.selection import CLEAN
from cclm_core.finetuning.any_model import AnyTaskModel, Floats, Texts, texts_of
from cclm_core.finetuning.config import TaskNoise
from cclm_core.finetuning.entities import entity_answers
from cclm_core.finetuning.familiarity import Familiarity
from cclm_core.finetuning.measures import HEADLINES, measure
from cclm_core.finetuning.noised import noised_texts
from cclm_core.finetuning.words import tags_of_texts
from cclm_core.labeled.examples import LabeledTask, LabeledText
from cclm_core.noise.text import TextNoiser


@dataclass(frozen=True)
class Validation:
    """Validation texts at several levels of noise, with the scores of P parts.

    Attributes:
        task: the kind of task.
        labels: the K labels.
        threshold: for `multilabel`.
        copies: level -> its texts, the same ones in the same order; `clean` first.
        texts: level -> the texts as the parts read them.
        rows: scores and targets of all levels, one after the other. Values of `regress` are in standard deviations.
    """

    task: LabeledTask
    labels: tuple[str, ...]
    threshold: float
    copies: Mapping[str, Sequence[LabeledText]]
    texts: Mapping[str, Texts]
    rows: Rows

    @property
    def number(self) -> int:
        """G, the number of texts, not counting copies."""
        return len(next(iter(self.copies.values())))

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """The number of the text that each of the N copies is of, (N,)."""
        return np.tile(np.arange(self.number), len(self.copies))

    @property
    def level_weights(self) -> dict[str, float]:
        """The weight of each level, with the sum 1."""
        weights = self.rows.weights.reshape(len(self.copies), self.number)[:, 0]
        return dict(zip(self.copies, (weights / weights.sum()).tolist(), strict=True))

    def level_rows(self, level: str) -> npt.NDArray[np.bool_]:
        """Which rows belong to a level, (R,) bool."""
        number = list(self.copies).index(level)
        return np.asarray(self.rows.owners // self.number == number)

    def measure(self, joined: Floats) -> dict[str, Measurement]:
        """Level -> the main metric of joined scores (R, K)."""
        return {
            level: measure(self.task, texts, self._answers(joined[self.level_rows(level)], self.texts[level]))[
                HEADLINES[self.task]
            ]
            for level, texts in self.copies.items()
        }

    def _answers(self, joined: Floats, texts: Texts) -> list[dict[str, Any]]:
        """Answers without probabilities."""
        if self.task == "classify":
            return [{"label": self.labels[number]} for number in joined.argmax(axis=1)]
        if self.task == "regress":
            return [{"value": value} for value in joined[:, 0].tolist()]
        if self.task == "multilabel":
            chosen = joined >= np.log(self.threshold / (1 - self.threshold))
            return [{"labels": [self.labels[k] for k in np.flatnonzero(row)]} for row in chosen]
        return entity_answers(texts.texts, texts.words, texts.by_text(joined), self.labels)


def familiarity_texts(texts: Texts) -> list[str]:
    """The strings whose noise is estimated: of pairs, both texts."""
    return [f"{first} {second}" for first, second in texts.pairs] if texts.seconds else list(texts.texts)


def validation_of(
    parts: Sequence[AnyTaskModel],
    texts: Sequence[LabeledText],
    noise: TaskNoise,
    familiarity: Familiarity,
    threshold: float,
    seed: int,
) -> Validation:
    """Scores validation texts with every part.

    Args:
        parts: models of the same task.
        texts: the validation texts; their labels are known to the parts.
        noise: the noised copies: one for each rate, and none if `share` is 0.
        familiarity: estimates the noise of a text.
        threshold: for `multilabel`.
        seed: seed of the noise.
    """
    first = parts[0]
    copies: dict[str, Sequence[LabeledText]] = {CLEAN: texts}
    weights = [1.0 if not noise.share else 1 - noise.share]
    for rate in noise.rates if noise.share else ():
        copies[f"noise_{rate:g}"] = noised_texts(texts, TextNoiser(noise.recipe(rate)), seed, f"validation {rate:g}")
        weights.append(noise.share / len(noise.rates))
    read = {level: texts_of(first, rows) for level, rows in copies.items()}
    scores = np.stack([np.concatenate([part.scores(own) for own in read.values()]) for part in parts])
    targets = np.concatenate([_targets(first, copies[level], own) for level, own in read.items()])
    if first.task == "regress":
        mean, deviation = float(targets.mean()), float(targets.std()) or 1.0
        scores, targets = (scores - mean) / deviation, (targets - mean) / deviation
    owners = [number * len(texts) + own.owners(first.task) for number, own in enumerate(read.values())]
    measures = np.concatenate([familiarity.measures(familiarity_texts(own)) for own in read.values()])
    weighted = np.repeat(weights, len(texts))
    rows = Rows(scores, targets, np.concatenate(owners), measures, weighted)
    return Validation(first.task, first.labels, threshold, copies, read, rows)


def _targets(model: AnyTaskModel, examples: Sequence[LabeledText], texts: Texts) -> npt.NDArray[Any]:
    numbers = {label: number for number, label in enumerate(model.labels)}
    if model.task == "classify":
        return np.array([numbers[str(example.label)] for example in examples], dtype=np.int64)
    if model.task == "regress":
        return np.array([example.value for example in examples], dtype=np.float64)
    if model.task == "multilabel":
        rows = [[float(label in example.labels) for label in model.labels] for example in examples]
        return np.array(rows, dtype=np.float64).reshape(len(examples), len(numbers))
    return np.array(tags_of_texts(examples, texts.words, model.labels), dtype=np.int64)
