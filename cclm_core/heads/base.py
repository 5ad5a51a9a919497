"""The contract of heads."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from cclm_core.objectives.base import Sums

Targets = dict[str, Tensor]
"""What a head reads besides the features: the answers, for tags the positions of the words, for pairs the ids."""

IDS = "ids"
"""The key of `Targets` with the ids of the texts, (B, L) int64, for heads that compare the texts of a pair."""


@dataclass(frozen=True, kw_only=True)
class HeadContext:
    """What a head needs to build its layers.

    Args:
        width: features per character.
        labels: the K labels, sorted; empty for regression.
        is_pair: whether each example has two texts.
        weights: weight of each label in the loss, in the order of `labels`; None for equal weights.
        mean, deviation: mean and standard deviation of the values in training, for regression.
        alphabet: the characters of the vocabulary, for heads that read ids.
    """

    width: int
    labels: tuple[str, ...] = ()
    is_pair: bool = False
    weights: tuple[float, ...] | None = None
    mean: float = 0.0
    deviation: float = 1.0
    alphabet: str = ""


class Head(nn.Module, ABC):
    """Turns features per character into the answer of a task."""

    selection_metric: ClassVar[str]
    """The held-out metric that selects the best weights; lower is better."""

    @abstractmethod
    def forward(self, features: Tensor, mask: Tensor, targets: Targets) -> Tensor:
        """The scores of a batch.

        Args:
            features: (B, L, W). For pairs, B is twice the number of examples: all first texts, then all second texts.
            mask: (B, L) bool, false at padding.
            targets: positions of words, for heads that read words; ids, for heads that compare texts.
        """

    @abstractmethod
    def loss(self, scores: Tensor, targets: Targets) -> tuple[Tensor, dict[str, Sums]]:
        """The loss () and metrics by name, from the scores of `forward` and the answers in `targets`."""

    @abstractmethod
    def answers(self, scores: Tensor) -> list[dict[str, Any]]:
        """The answer to each row of `scores`, as JSON-compatible values."""
