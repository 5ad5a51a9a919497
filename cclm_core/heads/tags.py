"""Heads that find entities: one BIO tag per word, or per character.

Tags: 0 is O, 1 + 2k is B of label k, 2 + 2k is I of label k. `evaluation.spans` decodes them: only valid sequences.
"""

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from cclm_core.heads.base import Head, HeadContext, Targets
from cclm_core.heads.dropout import dropout
from cclm_core.heads.pooling import word_features
from cclm_core.heads.transitions import Transitions, padded_words, places_of
from cclm_core.heads.word_layers import WordLayers
from cclm_core.objectives.base import Sums
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError


class TagsConfig(Config):
    """One BIO tag per word or per character."""

    head: Literal["tags"] = "tags"
    unit: Literal["word", "character"] = Field(
        default="word", description="what has a tag; `character` suits text without spaces between words"
    )
    norm: bool = Field(default=True, description="layer normalization of the features of a word")
    dropout: float = Field(default=0.3, ge=0, lt=1, description="share of features that training drops")
    transitions: Literal["fixed", "learned"] = Field(
        default="fixed",
        description="fixed: words are tagged independently, and the best valid sequence is searched; learned: the head "
        "also learns which tags follow each other (a linear-chain CRF)",
    )
    word_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the words whose characters training replaces by the mask, so that the context must tell",
    )

    word_layers: int | None = Field(
        default=None,
        ge=0,
        le=16,
        description="layers over the words of a text, each of which reads one neighbor on each side; null: 2, or 0 "
        "with `unit: character`",
    )
    word_width: int = Field(default=192, ge=8, le=4096, description="features per word in the layers over words")

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out newer keys with their defaults: heads that do not know them keep their digest."""
        values: dict[str, Any] = handler(self)
        newer = {"transitions": "fixed", "word_dropout": 0.0, "word_width": 192}
        return {name: value for name, value in values.items() if name not in newer or value != newer[name]}

    @property
    def num_word_layers(self) -> int:
        """The number of layers over words, or over characters with `unit: character`."""
        if self.word_layers is None:
            return 2 if self.unit == "word" else 0
        return self.word_layers

    def build(self, context: HeadContext) -> "Tags":
        """Builds the head."""
        return Tags(self, context)


class Tags(Head):
    """Reads a word as the features of its first character, the mean of all, and those of its last character.

    Layers over words then read the neighbors.

    With `unit: character`, every character is a word.
    """

    selection_metric: ClassVar[str] = "bits_per_tag"

    def __init__(self, config: TagsConfig, context: HeadContext) -> None:
        super().__init__()
        self.config, self.context = config, context
        width = context.width * (3 if config.unit == "word" else 1)
        self.norm = nn.LayerNorm(width) if config.norm else nn.Identity()
        self.word_layers = (
            WordLayers(width, config.word_width, config.num_word_layers) if config.num_word_layers else None
        )
        self.linear = nn.Linear(self.word_layers.width if self.word_layers else width, 1 + 2 * len(context.labels))
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)
        self.transitions = Transitions(1 + 2 * len(context.labels)) if config.transitions == "learned" else None
        weights = None
        if context.weights is not None:
            if self.transitions is not None:
                raise ConfigError("class_weights cannot be used with transitions: learned. Remove one of them.")
            weights = torch.tensor([1.0, *(weight for weight in context.weights for _ in range(2))])
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, features: Tensor, mask: Tensor, targets: Targets) -> Tensor:  # noqa: ARG002
        """Scores (N, 1 + 2K) of N words.

        Args:
            features: (B, L, W).
            mask: not read: padding belongs to no word.
            targets: `row`, `start` and `stop`, each (N,) int64: the row of each word and its ids, `stop` excluded.
        """
        words = dropout(self.norm(self.words(features, targets)), self.config.dropout, targets)
        if self.word_layers is not None:
            words = dropout(self.word_layers(words, targets["row"]), self.config.dropout, targets)
        scores: Tensor = self.linear(words)
        return scores

    def words(self, features: Tensor, targets: Targets) -> Tensor:
        """The features (N, P) of N words; see `forward`."""
        row, start, stop = targets["row"], targets["start"], targets["stop"]
        if self.config.unit == "character":
            return features[row, start]
        return word_features(features, row, start, stop)

    def loss(self, scores: Tensor, targets: Targets) -> tuple[Tensor, dict[str, Sums]]:
        """See `Head.loss`; `targets["tag"]` is (N,) int64. With learned transitions, it is that of whole sequences."""
        tag, number = targets["tag"], len(targets["tag"])
        if self.transitions is not None and number:
            total, likely = self._sequence_loss(self.transitions, scores.float(), tag, targets["row"])
            loss, bits = total / number, total.detach()
        else:
            weights = None if self.context.weights is None else self.get_buffer("weights")
            loss = nn.functional.cross_entropy(scores.float(), tag, weights)
            bits = nn.functional.cross_entropy(scores.detach().float(), tag, reduction="sum")
            likely = scores
        correct = (likely.argmax(-1) == tag).sum()
        return loss, {
            "bits_per_tag": Sums(float(bits / math.log(2)), number),
            "tag_accuracy": Sums(float(correct), number),
        }

    def log_probabilities(self, scores: Tensor, row: Tensor) -> Tensor:
        """The log-probabilities (N, 1 + 2K) of the tags of N words, given the other words of their texts.

        Args:
            scores: (N, 1 + 2K), from `forward`.
            row: (N,) int64, the text of each word, ascending.
        """
        if self.transitions is None or not len(row):
            return torch.log_softmax(scores.float(), dim=-1)
        place, mask = places_of(row)
        return self.transitions.log_marginals(padded_words(scores.float(), row, place, mask), mask)[row, place]

    def _sequence_loss(
        self, transitions: Transitions, scores: Tensor, tag: Tensor, row: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood () of the tags of all texts, and the log-probabilities (N, 1 + 2K) of tags."""
        place, mask = places_of(row)
        rows, tags = padded_words(scores, row, place, mask), padded_words(tag, row, place, mask)
        total = (transitions.log_partition(rows, mask) - transitions.path_scores(rows, tags, mask)).sum()
        with torch.no_grad():
            return total, transitions.log_marginals(rows, mask)[row, place]

    def answers(self, scores: Tensor) -> list[dict[str, Any]]:
        """The log-probabilities of the tags of each word; the model of the task decodes whole texts."""
        return [{"scores": row} for row in torch.log_softmax(scores.float(), dim=-1).tolist()]
