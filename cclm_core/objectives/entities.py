"""Entities: a BIO tag for every character."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.objectives.base import Example, ObjectiveContext, Sums
from cclm_core.objectives.windowed import Noised, Targets, WindowObjective
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.text.vocabulary import NUM_SPECIAL

LABELS = "labels.json"
"""The file with the meaning of the tags, next to the head."""

_FORMAT = "cclm-labels-1"
_SCHEME = "BIO of characters"


class EntitiesConfig(Config):
    """The weight of entity characters."""

    objective: Literal["entities"] = "entities"
    entity_weight: float = Field(
        default=3.0, gt=0, description="loss weight of characters inside entities; all others have weight 1"
    )

    def build(self, context: ObjectiveContext) -> "Entities":
        """Builds the objective with a new head."""
        return Entities(self, context)


class Entities(WindowObjective):
    """Weighted cross-entropy of the tag of each character: 0 outside of entities, then B and I for each label.

    In training, the input has typing noise, and tags move with their characters.

    Raises:
        ConfigError: the corpus has no entity labels.
    """

    selection_metric = "bits_per_tag"

    def __init__(self, config: EntitiesConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        if not context.entity_labels:
            raise ConfigError(
                "the objective entities needs a corpus with entity labels, but this corpus has none. Use a source with "
                "entity spans, e.g. a CoNLL file, or another objective. In Python, use `EntityPretrainer`."
            )
        self.config, self.labels = config, context.entity_labels
        num_tags = 1 + 2 * len(context.entity_labels)
        self.head = nn.Linear(context.width, num_tags)
        weights = torch.full((num_tags,), config.entity_weight)
        weights[0] = 1.0
        self.register_buffer("weights", weights, persistent=False)

    def save(self, folder: Path) -> None:
        """Writes the head, and the label of each tag."""
        super().save(folder)
        write_labels(folder, self.labels)

    def after_noise(self, batch: Noised, generator: np.random.Generator) -> Targets:  # noqa: ARG002
        """Targets: `positions` (T,) of all characters, and their `tags` (T,)."""
        noised = batch.noised
        is_character = noised.ids >= NUM_SPECIAL
        return Targets({"positions": np.flatnonzero(is_character), "tags": noised.tags[is_character].astype(np.int64)})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Weighted cross-entropy of the tags. The metrics are unweighted."""
        logits = self.head(features.flatten(0, 1)[example.targets["positions"]]).float()
        tags = example.targets["tags"]
        weights = self.get_buffer("weights")
        total = nn.functional.cross_entropy(logits, tags, weight=weights, reduction="sum")
        loss = total / weights[tags].sum().clamp(min=1)
        with torch.no_grad():
            unweighted = nn.functional.cross_entropy(logits, tags, reduction="sum").item()
            inside = tags > 0
            correct = int((logits.argmax(-1)[inside] == tags[inside]).sum())
        return loss, {
            self.selection_metric: Sums(unweighted / math.log(2), len(tags)),
            "entity_character_recall": Sums(correct, int(inside.sum())),
        }


def write_labels(folder: Path, labels: Sequence[str]) -> None:
    """Writes what the tags mean: 0 is outside, 1 + 2k is B and 2 + 2k is I of label k, for each character."""
    write_json(folder / LABELS, {"format": _FORMAT, "scheme": _SCHEME, "labels": list(labels)})


def read_labels(folder: Path) -> tuple[str, ...]:
    """The entity labels of a saved head, in the order of its tags; empty if the folder has no labels.

    Raises:
        ArtifactError: the file is damaged, or has another scheme.
    """
    path = folder / LABELS
    if not path.is_file():
        return ()
    content = read_json(path)
    if not isinstance(content, dict) or (content.get("format"), content.get("scheme")) != (_FORMAT, _SCHEME):
        raise ArtifactError(f"{path} must have format {_FORMAT} and scheme {_SCHEME!r}. Train the component again.")
    labels = content.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise ArtifactError(f"{path} must list the labels as nonempty strings. Train the component again.")
    if len(set(labels)) != len(labels):
        raise ArtifactError(f"{path} must list each label once, got {labels}. Train the component again.")
    return tuple(labels)
