"""Masked characters: mask characters and spans, and predict them from the surrounding text."""

import math
from typing import Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.masking import choose_positions
from cclm_core.objectives.base import Example, ObjectiveContext, Sums
from cclm_core.objectives.windowed import Noised, Targets, WindowObjective
from cclm_core.runtime.config import Config


class MaskedCharactersConfig(Config):
    """How many characters to mask, and how."""

    objective: Literal["masked_characters"] = "masked_characters"
    rate: float = Field(default=0.15, gt=0, lt=1, description="share of characters to predict")
    final_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of characters to predict at the end of the training and on held-out text; the share changes "
        "linearly from `rate` to it. null: `rate` throughout",
    )
    mean_span: float = Field(default=2.5, ge=1, description="mean length of a masked span, in characters")
    mask_share: float = Field(default=0.9, ge=0, le=1, description="share of selected characters that are masked")

    def rate_at(self, progress: float) -> float:
        """The share of characters to predict after `progress` of the training, 0 to 1.

        >>> [round(MaskedCharactersConfig(rate=0.4, final_rate=0.2).rate_at(share), 2) for share in (0, 0.5, 1)]
        [0.4, 0.3, 0.2]
        """
        return self.rate if self.final_rate is None else (1 - progress) * self.rate + progress * self.final_rate

    def build(self, context: ObjectiveContext) -> "MaskedCharacters":
        """Builds the objective with a new head."""
        return MaskedCharacters(self, context)


class MaskedCharacters(WindowObjective):
    """Cross-entropy of the characters at masked positions.

    In training, `mask_share` of the selected characters are masked; the others stay visible, so that the encoder also
    learns features of visible characters. The input has typing noise and the targets are the clean characters;
    characters inserted by noise have no target. In evaluation, all selected characters are masked.

    Source: BERT (Devlin et al. 2019, arXiv 1810.04805), with characters and spans instead of word pieces. A rate that
    changes: Ankner et al. 2023 (arXiv 2305.15096).
    """

    masks = True
    selection_metric = "bits_per_masked_character"

    def __init__(self, config: MaskedCharactersConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config
        self.head = nn.Linear(context.width, context.preprocessor.num_ids)

    def after_noise(self, batch: Noised, generator: np.random.Generator) -> Targets:
        """Targets: `positions` (T,) of selected characters, and their clean `ids` (T,)."""
        clean, noised = batch.clean, batch.noised
        length = noised.ids.shape[1]
        positions = choose_positions(noised.ids, self.config.rate_at(batch.progress), self.config.mean_span, generator)
        masked = generator.random(len(positions), dtype=np.float32) < (
            self.config.mask_share if batch.training else 1.0
        )
        masks = positions[masked]
        source = noised.source.reshape(-1)[positions]
        positions, source = positions[source >= 0], source[source >= 0]
        ids = clean.ids.reshape(-1)[positions - positions % max(1, length) + source]
        return Targets({"positions": positions, "ids": ids}, masks)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean cross-entropy of the selected characters."""
        selected = features.flatten(0, 1)[example.targets["positions"]]
        total = nn.functional.cross_entropy(self.head(selected).float(), example.targets["ids"], reduction="sum")
        count = len(example.targets["positions"])
        return total / max(1, count), {self.selection_metric: Sums(total.item() / math.log(2), count)}
