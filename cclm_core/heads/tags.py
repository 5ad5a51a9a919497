"""Heads that find entities: one BIO tag per word, or per character.

Tags: 0 is O, 1 + 2k is B of label k, 2 + 2k is I of label k. `evaluation.spans` decodes them: only valid sequences.
"""

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.heads.base import Head, HeadContext, Targets
from cclm_core.heads.dropout import dropout
from cclm_core.heads.pooling import word_features
from cclm_core.objectives.base import Sums
from cclm_core.runtime.config import Config


class TagsConfig(Config):
    """One BIO tag per word or per character."""

    head: Literal["tags"] = "tags"
    unit: Literal["word", "character"] = Field(
        default="word", description="what has a tag; `character` suits text without spaces between words"
    )
    norm: bool = Field(default=True, description="layer normalization of the features of a word")
    dropout: float = Field(default=0.3, ge=0, lt=1, description="share of features that training drops")

    def build(self, context: HeadContext) -> "Tags":
        """Builds the head."""
        return Tags(self, context)


class Tags(Head):
    """Reads a word as the features of its first character, the mean of all, and those of its last character.

    With `unit: character`, every character is a word.
    """

    selection_metric: ClassVar[str] = "bits_per_tag"

    def __init__(self, config: TagsConfig, context: HeadContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        width = context.width * (3 if config.unit == "word" else 1)
        self.norm = nn.LayerNorm(width) if config.norm else nn.Identity()
        self.linear = nn.Linear(width, 1 + 2 * len(context.labels))
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        weights = None
        if context.weights is not None:
            weights = torch.tensor([1.0, *(weight for weight in context.weights for _ in range(2))])
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, features: Tensor, mask: Tensor, targets: Targets) -> Tensor:  # noqa: ARG002
        """Scores (N, 1 + 2K) of N words.

        Args:
            features: (B, L, W).
            mask: not read: padding belongs to no word.
            targets: `row`, `start` and `stop`, each (N,) int64: the row of each word and its ids, `stop` excluded.
        """
        scores: Tensor = self.linear(dropout(self.norm(self.words(features, targets)), self.config.dropout, targets))
        return scores

    def words(self, features: Tensor, targets: Targets) -> Tensor:
        """The features (N, P) of N words; see `forward`."""
        row, start, stop = targets["row"], targets["start"], targets["stop"]
        if self.config.unit == "character":
            return features[row, start]
        return word_features(features, row, start, stop)

    def loss(self, scores: Tensor, targets: Targets) -> tuple[Tensor, dict[str, Sums]]:
        """See `Head.loss`; `targets["tag"]` is (N,) int64."""
        tag = targets["tag"]
        weights = None if self.context.weights is None else self.get_buffer("weights")
        loss = nn.functional.cross_entropy(scores.float(), tag, weights)
        bits = nn.functional.cross_entropy(scores.detach().float(), tag, reduction="sum") / math.log(2)
        correct = (scores.argmax(-1) == tag).sum()
        number = len(tag)
        return loss, {"bits_per_tag": Sums(float(bits), number), "tag_accuracy": Sums(float(correct), number)}

    def answers(self, scores: Tensor) -> list[dict[str, Any]]:
        """The log-probabilities of the tags of each word; the model of the task decodes whole texts."""
        return [{"scores": row} for row in torch.log_softmax(scores.float(), dim=-1).tolist()]
