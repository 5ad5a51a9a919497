"""Reads a saved component together with its trained head, to use it or to train it further."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cclm_core.composition.component import Component
from cclm_core.composition.store import load_component
from cclm_core.encoders.embedder import Base
from cclm_core.noise.misspellings import Spellings
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Objective, ObjectiveContext
from cclm_core.objectives.entities import LABELS, read_labels
from cclm_core.objectives.labels import DOCUMENT_LABELS, read_document_labels
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import ArtifactError
from cclm_core.text.word_targets import FILE as TARGETS
from cclm_core.text.word_targets import read_targets
from cclm_core.training.config import ComponentConfig
from cclm_core.training.run import Identity, read_card
from cclm_core.training.trainee import Point


@dataclass(frozen=True)
class SavedComponent:
    """A component that was trained before.

    Attributes:
        component: the component.
        objective: the objective with its trained head, which knows the labels or words that it predicts.
        config: the configuration of the training.
        identity: everything that the training depended on.
        noise: the noise of the training.
        misspellings: the misspellings that the noise used, if any.
        curve: the learning curve.
    """

    component: Component
    objective: Objective
    config: ComponentConfig
    identity: Identity
    noise: TrainingNoise
    misspellings: Spellings | None
    curve: list[Point]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of a pretrainer with the same settings, besides the embedder and the task."""
        config = self.config
        return {
            "name": self.component.name,
            "encoder": config.encoder,
            "independent": config.independent,
            "embedding": config.embedding,
            "origin": config.origin,
            "noise": self.noise,
            "words": self.identity.words,
            "seed": self.identity.seed,
        }


def read_component(folder: Path, base: Base) -> SavedComponent:
    """Reads what `Pretrainer.save` or the stage `pretrain` published.

    Args:
        folder: the folder of the component.
        base: the embedder or composition that the component was trained on.

    Raises:
        ArtifactError: the folder is not such a component, or something that it needs is missing or damaged.
        CompositionError: the component was trained on another base or vocabulary.
    """
    verify(folder, "component")
    component = load_component(folder)
    component.card.check(base)
    identity = _identity(folder / "card.json")
    config = ComponentConfig.parse(identity.configuration, f"{folder}/card.json: configuration")
    noise = dict(identity.noise)
    misspellings = noise.pop("misspellings", None)
    context = ObjectiveContext(
        width=component.width,
        preprocessor=base.preprocessor,
        noise=TrainingNoise.parse(noise, f"{folder}/card.json: noise"),
        entity_labels=read_labels(folder),
        document_labels=read_document_labels(folder),
        misspellings=misspellings,
        words=read_targets(folder),
    )
    _check_meaning(folder, config.objective.objective, context)
    objective = config.objective.build(context)
    objective.load_head(folder)
    curve = _curve(folder / "curve.csv")
    return SavedComponent(component, objective.eval(), config, identity, context.noise, misspellings, curve)


def _identity(path: Path) -> Identity:
    return Identity.parse(read_card(path), str(path))


def _curve(path: Path) -> list[Point]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(stream)]
        return [{name: float(value) for name, value in row.items()} for row in rows]
    except (OSError, TypeError, ValueError, csv.Error):  # ValueError: not UTF-8, too
        raise ArtifactError(f"{path} must be a table of numbers. Train the component again.") from None


def _check_meaning(folder: Path, objective: str, context: ObjectiveContext) -> None:
    """Checks that the folder has the names of the head's outputs."""
    missing = {
        "entities": not context.entity_labels and LABELS,
        "labels": not context.document_labels and DOCUMENT_LABELS,
        "masked_words": context.words is None and TARGETS,
    }
    if name := missing.get(objective):
        raise ArtifactError(
            f"{name} not found in {folder}, so the meaning of the outputs of its head is unknown: it was trained with "
            "an earlier version. Train the component again."
        )
