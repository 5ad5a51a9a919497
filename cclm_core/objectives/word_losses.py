"""How a head learns to tell thousands of words apart: from all of them at once, or from a few that are drawn.

The scores of a head estimate log-probabilities under each of the losses, up to what all words share. So one measure,
the full softmax, holds for heads that were trained by different losses.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.runtime.config import Config

Shares = npt.NDArray[np.float64]


class FullSoftmaxConfig(Config):
    """Every target is scored."""

    kind: Literal["full_softmax"] = "full_softmax"


class SampledSoftmaxConfig(Config):
    """The wanted targets, and some that are drawn for the whole batch, are scored."""

    kind: Literal["sampled_softmax"]
    num_draws: int = Field(
        default=2000, ge=1, description="draws per batch; a target that is drawn several times is scored once"
    )
    proposal: Literal["log_uniform", "frequency"] = Field(
        default="log_uniform",
        description="from what targets are drawn: the inverse of their rank by frequency (nearly), or their frequency",
    )


class NegativeSamplingConfig(Config):
    """Each wanted target is told from a few that are drawn for it alone."""

    kind: Literal["negative_sampling"]
    num_negatives: int = Field(default=10, ge=1, description="targets that are drawn for each wanted one")
    power: float = Field(default=0.75, ge=0, le=1, description="targets are drawn by their frequency to this power")


WordLossConfig = Annotated[
    FullSoftmaxConfig | SampledSoftmaxConfig | NegativeSamplingConfig, Field(discriminator="kind")
]


class Proposal:
    """A distribution over the targets to draw from: `shares` (V,), which need not sum to 1."""

    def __init__(self, shares: Shares) -> None:
        self.shares = shares / shares.sum()
        self._below = np.cumsum(self.shares)[:-1]

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Targets, drawn independently."""
        return np.searchsorted(self._below, generator.random(shape), side="right")


class DrawnLoss(nn.Module, ABC):
    """A loss of some targets against others that were drawn; all randomness is in `draw`."""

    @abstractmethod
    def draw(self, number: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """What is drawn for `number` wanted targets."""

    @abstractmethod
    def forward(self, head: nn.Linear, features: Tensor, wanted: Tensor, drawn: Tensor) -> Tensor:
        """The losses (T,), in nats, of `wanted` (T,) given their `features` (T, W) and what `draw` gave."""


class SampledSoftmax(DrawnLoss):
    """Cross-entropy against targets that are drawn once for all of a batch.

    A drawn target counts for as many as it stands for: its score is lessened by the logarithm of the number of times
    that it can be expected among the scored, here the probability that it is drawn at all. The sum over the targets
    that are not wanted is estimated without bias by that, and its logarithm with a bias that vanishes as more are
    drawn. The wanted target is always scored, so its own score is left as it is (TensorFlow lessens that one too);
    where it was drawn besides, it is not counted twice.

    Source: Jean et al. 2015 (arXiv 1412.2007, section 3); `tf.nn.sampled_softmax_loss`; for the score of the wanted
    target Blanc and Rendle 2018 (arXiv 1712.00527).
    """

    def __init__(self, config: SampledSoftmaxConfig, shares: Shares) -> None:
        super().__init__()
        self.num_draws = config.num_draws
        self.proposal = Proposal(shares if config.proposal == "frequency" else _log_uniform(shares))
        log_expected = np.log(-np.expm1(config.num_draws * np.log1p(-self.proposal.shares)))
        self.register_buffer("log_expected", torch.from_numpy(log_expected).float(), persistent=False)

    def draw(self, number: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:  # noqa: ARG002
        """Distinct targets (S,), at most `num_draws`, rising."""
        return np.unique(self.proposal.draw((self.num_draws,), generator))

    def forward(self, head: nn.Linear, features: Tensor, wanted: Tensor, drawn: Tensor) -> Tensor:
        others = nn.functional.linear(features, *_rows(head, drawn)).float()
        others = others - self.get_buffer("log_expected")[drawn]
        others = others.masked_fill(drawn == wanted[:, None], -math.inf)
        own = _scores(head, features, wanted[:, None])
        losses: Tensor = torch.cat([own, others], dim=1).logsumexp(1) - own[:, 0]
        return losses


class NegativeSampling(DrawnLoss):
    """Logistic losses: the wanted target is the true one, and each drawn one is not.

    What is judged is the score of a target less the logarithm of the number of times that it is expected among the
    drawn: that is Mikolov's loss, with the bias of each target counted from another zero, and makes the scores of the
    head log-probabilities, as in noise-contrastive estimation.

    Source: Mikolov et al. 2013 (arXiv 1310.4546, equation 4, frequency to the power 0.75); Mnih and Teh 2012
    (arXiv 1206.6426).
    """

    def __init__(self, config: NegativeSamplingConfig, shares: Shares) -> None:
        super().__init__()
        self.num_negatives = config.num_negatives
        self.proposal = Proposal(shares**config.power)
        log_expected = np.log(config.num_negatives * self.proposal.shares)
        self.register_buffer("log_expected", torch.from_numpy(log_expected).float(), persistent=False)

    def draw(self, number: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """For each wanted target `num_negatives` others: (T, K)."""
        return self.proposal.draw((number, self.num_negatives), generator)

    def forward(self, head: nn.Linear, features: Tensor, wanted: Tensor, drawn: Tensor) -> Tensor:
        judged = torch.cat([wanted[:, None], drawn], dim=1)
        scores = _scores(head, features, judged) - self.get_buffer("log_expected")[judged]
        losses: Tensor = nn.functional.softplus(-scores[:, 0]) + nn.functional.softplus(scores[:, 1:]).sum(1)
        return losses


def build_loss(config: WordLossConfig, shares: Shares) -> DrawnLoss | None:
    """The loss that `config` describes; None for the full softmax, which draws nothing.

    Args:
        shares: (V,) the frequency of each target, none of them 0.
    """
    match config:
        case SampledSoftmaxConfig():
            return SampledSoftmax(config, shares)
        case NegativeSamplingConfig():
            return NegativeSampling(config, shares)
        case FullSoftmaxConfig():
            return None


def _log_uniform(shares: Shares) -> Shares:
    """Shares that fall with the rank: log(rank + 1) - log(rank), ranks from 1 for the most frequent."""
    ranks = np.empty(len(shares))
    ranks[np.argsort(-shares, kind="stable")] = np.arange(1, len(shares) + 1)
    return np.log1p(1 / ranks)


def _rows(head: nn.Linear, targets: Tensor) -> tuple[Any, Any]:
    """Weights and biases of some targets, of any shape.

    Looked up as embeddings are: the gradient of an index is summed in an order that hangs on threads.
    """
    embedding = nn.functional.embedding
    return embedding(targets, head.weight), embedding(targets, head.bias[:, None])[..., 0]


def _scores(head: nn.Linear, features: Tensor, targets: Tensor) -> Tensor:
    """The scores (T, K) that `features` (T, W) give to `targets` (T, K), of each row its own."""
    weights, biases = _rows(head, targets)
    scores: Tensor = (weights * features[:, None]).sum(-1).float() + biases
    return scores
