"""Entities: a BIO tag for every character."""

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.vocabulary import NUM_SPECIAL


class EntitiesConfig(Config):
    """How tags are weighted."""

    objective: Literal["entities"] = "entities"
    entity_weight: float = Field(
        default=3.0, gt=0, description="weight of a character inside an entity; one outside has weight 1"
    )

    def build(self, context: ObjectiveContext) -> "Entities":
        """The objective with a new head."""
        return Entities(self, context)


class Entities(Objective):
    """Weighted cross-entropy of each character's tag: 0 outside, then B and I of each label.

    In training the input carries typing noise, and the tags move with their characters.

    Raises:
        ConfigError: the corpus has no entity labels.
    """

    selection_metric = "bits_per_tag"

    def __init__(self, config: EntitiesConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        if not context.entity_labels:
            raise ConfigError("the objective entities needs a corpus with entity spans, but this one has no labels.")
        self.config = config
        num_tags = 1 + 2 * len(context.entity_labels)
        self.head = nn.Linear(context.width, num_tags)
        weights = torch.full((num_tags,), config.entity_weight)
        weights[0] = 1.0
        self.register_buffer("weights", weights, persistent=False)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        """Targets: `places` (T,) of all characters, and their `tags` (T,)."""
        noised = self.noised(batch, generator, training)
        text = noised.ids >= NUM_SPECIAL
        targets = {
            "places": torch.from_numpy(np.flatnonzero(text)),
            "tags": torch.from_numpy(noised.tags[text].astype(np.int64)),
        }
        return Example(torch.from_numpy(noised.ids), targets)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Weighted cross-entropy of the tags; the metrics are unweighted."""
        scores = self.head(features.flatten(0, 1)[example.targets["places"]]).float()
        tags = example.targets["tags"]
        weights = self.get_buffer("weights")
        loss = nn.functional.cross_entropy(scores, tags, weight=weights, reduction="sum") / weights[tags].sum().clamp(
            min=1
        )
        with torch.no_grad():
            plain = nn.functional.cross_entropy(scores, tags, reduction="sum").item()
            inside = tags > 0
            right = int((scores.argmax(-1)[inside] == tags[inside]).sum())
        return loss, {
            self.selection_metric: Sums(plain / math.log(2), len(tags)),
            "entity_character_recall": Sums(right, int(inside.sum())),
        }
