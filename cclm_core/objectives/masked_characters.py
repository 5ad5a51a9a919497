"""Masked characters: hide characters and spans, predict them from the text on both sides."""

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.masking import choose_positions
from cclm_core.corpus.windows import WindowBatch
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.runtime.config import Config
from cclm_core.text.vocabulary import MASK


class MaskedCharactersConfig(Config):
    """How many characters are masked, and how."""

    objective: Literal["masked_characters"] = "masked_characters"
    rate: float = Field(default=0.15, gt=0, lt=1, description="share of the characters to predict")
    mean_span: float = Field(default=2.5, ge=1, description="mean length of a masked span, in characters")
    mask_share: float = Field(default=0.9, ge=0, le=1, description="share of the chosen characters that show the mask")

    def build(self, context: ObjectiveContext) -> "MaskedCharacters":
        """The objective with a new head."""
        return MaskedCharacters(self, context)


class MaskedCharacters(Objective):
    """Cross-entropy of the characters at masked positions.

    A chosen character shows the mask id in `mask_share` of the cases and itself in the others, so that the encoder
    also learns features of visible characters. In training the input carries typing noise; targets are the clean
    characters, and a character inserted by noise is no target.

    Source: BERT (Devlin et al. 2019, arXiv 1810.04805) with characters and spans in place of word pieces.
    """

    selection_metric = "bits_per_masked_character"

    def __init__(self, config: MaskedCharactersConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config
        self.head = nn.Linear(context.width, context.preprocessor.num_ids)

    def example(self, batch: WindowBatch, generator: np.random.Generator, training: bool) -> Example:
        """Targets: `places` (T,) of masked characters, and the clean `ids` (T,) there."""
        noised = self.noised(batch, generator, training)
        length = noised.ids.shape[1]
        places = choose_positions(noised.ids, self.config.rate, self.config.mean_span, generator)
        shown = generator.random(len(places), dtype=np.float32) < (self.config.mask_share if training else 1.0)
        ids = noised.ids.copy()
        ids.reshape(-1)[places[shown]] = MASK
        source = noised.source.reshape(-1)[places]
        wanted, source = places[source >= 0], source[source >= 0]
        clean = batch.ids.reshape(-1)[wanted - wanted % max(1, length) + source]
        return Example(torch.from_numpy(ids), {"places": torch.from_numpy(wanted), "ids": torch.from_numpy(clean)})

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean cross-entropy of the masked characters."""
        chosen = features.flatten(0, 1)[example.targets["places"]]
        losses = nn.functional.cross_entropy(self.head(chosen).float(), example.targets["ids"], reduction="sum")
        count = len(example.targets["places"])
        return losses / max(1, count), {self.selection_metric: Sums(losses.item() / math.log(2), count)}
