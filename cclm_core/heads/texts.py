"""Heads for whole texts and pairs of texts: classification, several labels, regression."""

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from cclm_core.heads.answers import label_answers, multilabel_answers
from cclm_core.heads.base import IDS, Head, HeadContext, Targets
from cclm_core.heads.dropout import dropout
from cclm_core.heads.pooling import Pooling, PoolingKind, pair_features
from cclm_core.heads.similarity import NUM_SIMILARITIES, PairSimilarity
from cclm_core.objectives.base import Sums
from cclm_core.runtime.config import Config

_INIT_STD = 0.02


class TextHeadConfig(Config):
    """Settings of all heads for whole texts."""

    pooling: PoolingKind = Field(default="mean_max", description="how characters become one text; see `Pooling`")
    norm: bool = Field(default=True, description="layer normalization of the pooled features")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="share of pooled features that training drops")
    similarities: bool | None = Field(
        default=None,
        description="for pairs: also reads similarities of the character n-grams of both texts; null: yes, but no in "
        "heads saved without this key",
    )

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out `similarities` if it is null: heads that do not know it keep their digest."""
        values: dict[str, Any] = handler(self)
        if values.get("similarities") is None:
            values.pop("similarities", None)
        return values


class TextHead(Head):
    """Pools the characters of each text, and applies one linear layer.

    Pairs are read through `pair_features` and, with `similarities`, `PairSimilarity`, whose weights start at 0.
    """

    def __init__(self, config: TextHeadConfig, context: HeadContext, num_scores: int) -> None:
        super().__init__()
        self.config, self.context = config, context
        self.pooling = Pooling(config.pooling, context.width)
        self.width = self.pooling.width * (4 if context.is_pair else 1)
        has_similarity = context.is_pair and bool(config.similarities)
        self.similarity = PairSimilarity(context.alphabet) if has_similarity else None
        self.norm = nn.LayerNorm(self.width) if config.norm else nn.Identity()
        self.linear = nn.Linear(self.width + (NUM_SIMILARITIES if has_similarity else 0), num_scores)
        nn.init.normal_(self.linear.weight, std=_INIT_STD)
        nn.init.zeros_(self.linear.bias)
        if has_similarity:
            nn.init.zeros_(self.linear.weight[:, self.width :])

    def forward(self, features: Tensor, mask: Tensor, targets: Targets) -> Tensor:
        """Scores (N, K) of N texts or pairs; see `Head.forward`."""
        return self.classify(self.joined(self.pooling(features, mask), targets.get(IDS)), targets)

    def joined(self, pooled: Tensor, ids: Tensor | None = None) -> Tensor:
        """The features (N, P) of each example.

        Args:
            pooled: (B, P), one text per example, or all first texts and then all second ones.
            ids: (B, L) int64, the ids of the texts; without them, the similarities are left out.
        """
        joined = pair_features(pooled) if self.context.is_pair else pooled
        if self.similarity is None or ids is None:
            return joined
        return torch.cat([joined, self.similarity(ids).to(joined.dtype)], dim=-1)

    def classify(self, joined: Tensor, targets: Targets | None = None) -> Tensor:
        """Scores (N, K) from joined features (N, P); with dropout if `targets` has a seed for it."""
        pooled = dropout(self.norm(joined[:, : self.width]), self.config.dropout, targets or {})
        read = torch.cat([pooled, joined[:, self.width :]], dim=-1)
        return nn.functional.linear(read, self.linear.weight[:, : read.shape[1]], self.linear.bias)


class ClassificationConfig(TextHeadConfig):
    """One label per text: softmax and cross-entropy."""

    head: Literal["classification"] = "classification"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="probability given to the other labels")

    def build(self, context: HeadContext) -> "Classification":
        """Builds the head."""
        return Classification(self, context)


class Classification(TextHead):
    """One label per text."""

    selection_metric: ClassVar[str] = "bits_per_label"

    def __init__(self, config: ClassificationConfig, context: HeadContext) -> None:
        super().__init__(config, context, len(context.labels))
        self.smoothing = config.label_smoothing
        weights = None if context.weights is None else torch.tensor(context.weights)
        self.register_buffer("weights", weights, persistent=False)

    def loss(self, scores: Tensor, targets: Targets) -> tuple[Tensor, dict[str, Sums]]:
        """See `Head.loss`; `targets["label"]` is (N,) int64."""
        label = targets["label"]
        weights = None if self.context.weights is None else self.get_buffer("weights")
        loss = nn.functional.cross_entropy(scores.float(), label, weights, label_smoothing=self.smoothing)
        bits = nn.functional.cross_entropy(scores.detach().float(), label, reduction="sum") / math.log(2)
        correct = (scores.argmax(-1) == label).sum()
        number = len(label)
        return loss, {"bits_per_label": Sums(float(bits), number), "accuracy": Sums(float(correct), number)}

    def answers(self, scores: Tensor) -> list[dict[str, Any]]:
        """`label`, its probability `score`, and the probabilities `scores` of all labels, most probable first."""
        return label_answers(scores, self.context.labels)


class MultilabelConfig(TextHeadConfig):
    """Any number of labels per text: one logistic regression per label."""

    head: Literal["multilabel"] = "multilabel"
    threshold: float = Field(default=0.5, gt=0, lt=1, description="probability from which a label is predicted")

    def build(self, context: HeadContext) -> "Multilabel":
        """Builds the head."""
        return Multilabel(self, context)


class Multilabel(TextHead):
    """Any number of labels per text."""

    selection_metric: ClassVar[str] = "bits_per_text"

    def __init__(self, config: MultilabelConfig, context: HeadContext) -> None:
        super().__init__(config, context, len(context.labels))
        self.threshold = config.threshold
        weights = None if context.weights is None else torch.tensor(context.weights)
        self.register_buffer("weights", weights, persistent=False)

    def loss(self, scores: Tensor, targets: Targets) -> tuple[Tensor, dict[str, Sums]]:
        """See `Head.loss`; `targets["labels"]` is (N, K) float32, 0 or 1."""
        labels = targets["labels"]
        losses = nn.functional.binary_cross_entropy_with_logits(scores.float(), labels, reduction="none")
        bits = losses.detach().sum() / math.log(2)
        exact = ((scores > 0) == (labels > 0)).all(-1).sum()
        number = len(labels)
        weights = 1.0 if self.context.weights is None else self.get_buffer("weights")
        return (losses * weights).mean(), {
            "bits_per_text": Sums(float(bits), number),
            "exact_match": Sums(float(exact), number),
        }

    def answers(self, scores: Tensor) -> list[dict[str, Any]]:
        """`labels`, sorted, and the probabilities `scores` of all labels."""
        return multilabel_answers(scores, self.context.labels, self.threshold)


class RegressionConfig(TextHeadConfig):
    """One number per text: squared error of the standardized value."""

    head: Literal["regression"] = "regression"

    def build(self, context: HeadContext) -> "Regression":
        """Builds the head."""
        return Regression(self, context)


class Regression(TextHead):
    """One number per text."""

    selection_metric: ClassVar[str] = "squared_error"

    def __init__(self, config: RegressionConfig, context: HeadContext) -> None:
        super().__init__(config, context, 1)

    def loss(self, scores: Tensor, targets: Targets) -> tuple[Tensor, dict[str, Sums]]:
        """See `Head.loss`; `targets["value"]` is (N,) float32 in the units of the data."""
        value = (targets["value"] - self.context.mean) / self.context.deviation
        squared = (scores[:, 0].float() - value) ** 2
        total = float(squared.detach().sum()) * self.context.deviation**2
        return squared.mean(), {"squared_error": Sums(total, len(value))}

    def answers(self, scores: Tensor) -> list[dict[str, Any]]:
        """`value`, in the units of the data."""
        values = scores[:, 0].float() * self.context.deviation + self.context.mean
        return [{"value": value} for value in values.tolist()]
