"""Several models of one task as one model: their scores are joined for each text."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from cclm_core.evaluation.fusing import Weights, fuse
from cclm_core.finetuning.any_model import AnyTaskModel, Floats, Prediction, Texts, groups
from cclm_core.finetuning.entities import entity_answers
from cclm_core.finetuning.familiarity import NUM_MEASURES, Familiarity
from cclm_core.finetuning.validation import familiarity_texts
from cclm_core.heads.answers import label_answers, multilabel_answers
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.config import Config, digest
from cclm_core.runtime.errors import ArtifactError
from cclm_core.text.tagged_words import WordSpans

PartName = Annotated[str, Field(pattern=r"^\w[\w-]*$")]  # also the name of a folder, so no path


class EnsembleCard(Config):
    """Everything about an ensemble except its parts: task.json."""

    format: Literal["cclm-ensemble-1"] = "cclm-ensemble-1"
    name: str
    task: LabeledTask
    labels: tuple[str, ...] = ()
    is_pair: bool = False
    parts: tuple[PartName, ...] = Field(min_length=1, description="names of the parts, in the order of the weights")
    weights: Weights
    threshold: float = Field(default=0.5, gt=0, lt=1, description="for `multilabel`")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.weights.bias) != len(self.parts):
            raise ValueError(f"weights must be one per part, got {len(self.weights.bias)} for {len(self.parts)} parts")
        return self


class Ensemble(AnyTaskModel):
    """Answers texts with the joined scores of its parts.

    >>> model = load_task("models/ensembles/intent_all")          # doctest: +SKIP
    >>> model.predict(["my card did not arive"])[0]["label"]      # doctest: +SKIP
    'card_arrival'

    Args:
        card: names of the parts and their weights.
        parts: the models, in the order of the card.
        familiarity: estimates the noise of a text; None if the weights do not depend on the text.

    Raises:
        ArtifactError: the parts have other tasks, labels or units than the card.
    """

    card: EnsembleCard
    no_vectors = "it joins the answers of several models. Embed with one of its parts that has a network."

    def __init__(
        self, card: EnsembleCard, parts: Sequence[AnyTaskModel], familiarity: Familiarity | None = None
    ) -> None:
        super().__init__()
        self.card, self.familiarity = card, familiarity
        self.parts = nn.ModuleList(parts)
        assert len(parts) == len(card.parts) and (familiarity is not None or not card.weights.slope)
        refuse_different(dict(zip(card.parts, parts, strict=True)), card)

    @property
    def digest(self) -> str:
        """SHA-256 of the card and the parts."""
        return digest([self.card.canonical(), [part.digest for part in self._parts]])

    def named_parts(self) -> list[tuple[str, AnyTaskModel]]:
        """The parts with their names."""
        return list(zip(self.card.parts, self._parts, strict=True))

    @property
    def _parts(self) -> list[AnyTaskModel]:
        return [part for part in self.parts if isinstance(part, AnyTaskModel)]

    def predict(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Prediction]:
        """The answer to each text or pair; see `AnyTaskModel.predict`."""
        answers: list[Prediction] = []
        for group in groups(self._checked(texts)):
            read = Texts.of(group, self.is_pair, self.words_of(group) if self.task == "tag" else ())
            answers += self.answers(self.scores(read), read)
        return answers

    def predict_words(self, texts: Sequence[str], words: Sequence[WordSpans]) -> list[Prediction]:
        """The entities of texts whose words are known, for `tag`; see `AnyTaskModel.predict_words`."""
        answers: list[Prediction] = []
        for group in groups(list(zip(texts, words, strict=True))):
            read = Texts([text for text, _ in group], words=[own for _, own in group])
            answers += self.answers(self.scores(read), read)
        return answers

    def scores(self, texts: Texts) -> Floats:
        """See `AnyTaskModel.scores`."""
        return self.join(self.part_scores(texts), texts)

    def part_scores(self, texts: Texts) -> list[Floats]:
        """The scores of each part."""
        return [part.scores(texts) for part in self._parts]

    def weights_of(self, texts: Texts) -> Floats:
        """The weights (N, P) of the parts for N texts."""
        measures = np.zeros((len(texts.texts), NUM_MEASURES))
        if self.familiarity is not None and self.card.weights.slope:
            measures = self.familiarity.measures(familiarity_texts(texts))
        return self.card.weights.of(measures)

    def join(self, scores: Sequence[Floats], texts: Texts) -> Floats:
        """The joined scores (R, K) from the scores of each part."""
        weights = self.weights_of(texts)[texts.owners(self.task)]
        return fuse(self.task, np.stack(scores), weights)

    def answers(self, scores: Floats, texts: Texts) -> list[Prediction]:
        """The answers from scores, of the ensemble or of one of its parts."""
        return answers_from(self.task, self.labels, scores, texts, self.card.threshold)

    def words_of(self, texts: Sequence[str]) -> list[WordSpans]:
        """The words or characters that get a tag each; for `tag`."""
        return self._parts[0].words_of(texts)


def answers_from(
    task: LabeledTask, labels: Sequence[str], scores: Floats, texts: Texts, threshold: float
) -> list[Prediction]:
    """The answers to texts from scores; see `AnyTaskModel.scores`.

    Args:
        task: the kind of task.
        labels: the K labels.
        scores: (R, K).
        texts: the N texts.
        threshold: for `multilabel`.
    """
    if task == "regress":
        return [{"value": value} for value in scores[:, 0].tolist()]
    if task == "tag":
        return entity_answers(texts.texts, texts.words, texts.by_text(scores), labels)
    if task == "multilabel":
        return multilabel_answers(torch.from_numpy(scores), labels, threshold)
    return label_answers(torch.from_numpy(scores), labels)


def refuse_different(parts: dict[str, AnyTaskModel], card: Any) -> None:
    """Refuses parts that do not answer the same question.

    Args:
        parts: name -> model.
        card: has `name`, `task`, `labels` and `is_pair`.

    Raises:
        ArtifactError: a part has another task, other labels, or tags other units.
    """
    units = {}
    for name, part in parts.items():
        own = (part.task, part.labels, part.is_pair)
        if own != (card.task, card.labels, card.is_pair):
            raise ArtifactError(
                f"the part {name} does not fit {card.name}: it has the task {part.task} with {len(part.labels)} labels"
                f"{' on pairs' if part.is_pair else ''}, but expected is {card.task} with {len(card.labels)} labels"
                f"{' on pairs' if card.is_pair else ''}, the same ones. Train it on the same data."
            )
        if part.task == "tag":
            units[name] = part.words_of(["ab"])[0]
    if len(set(units.values())) > 1:
        raise ArtifactError(
            f"the parts of {card.name} must all tag words or all tag characters: {', '.join(units)} differ. Set the "
            "same `head: {unit: ...}` and train them again."
        )
