"""The losses of a head over thousands of words: the full softmax, or one that compares with a few drawn words.

Under each loss the scores of a head estimate log-probabilities up to a constant. So heads trained by different losses
can be compared by one metric, the full softmax.

A configuration builds its loss: `config.build(shares)`. To add a loss: its configuration and class, a line in
`WordLossConfig`, and a test.
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

    def build(self, shares: Shares) -> None:
        """None: no targets are drawn."""


class SampledSoftmaxConfig(Config):
    """The true targets are scored against targets that are drawn once for the whole batch."""

    kind: Literal["sampled_softmax"] = "sampled_softmax"
    num_draws: int = Field(
        default=2000, ge=1, description="draws per batch; a target drawn several times is scored once"
    )
    proposal: Literal["log_uniform", "frequency"] = Field(
        default="log_uniform",
        description="distribution of the draws: about the inverse of the frequency rank, or the frequency",
    )

    def build(self, shares: Shares) -> "SampledSoftmax":
        """The loss for targets of frequencies `shares` (V,), all above 0."""
        return SampledSoftmax(self, shares)


class NegativeSamplingConfig(Config):
    """Each true target is scored against a few targets that are drawn for it alone."""

    kind: Literal["negative_sampling"] = "negative_sampling"
    num_negatives: int = Field(default=10, ge=1, description="targets drawn for each true one")
    power: float = Field(default=0.75, ge=0, le=1, description="targets are drawn by their frequency to this power")

    def build(self, shares: Shares) -> "NegativeSampling":
        """The loss for targets of frequencies `shares` (V,), all above 0."""
        return NegativeSampling(self, shares)


WordLossConfig = Annotated[
    FullSoftmaxConfig | SampledSoftmaxConfig | NegativeSamplingConfig, Field(discriminator="kind")
]
"""Any loss. This union is the whole catalogue: contract tests run over its members."""


class Proposal:
    """A distribution over the targets to draw from: `shares` (V,), which need not sum to 1."""

    def __init__(self, shares: Shares) -> None:
        self.shares = shares / shares.sum()
        self._below = np.cumsum(self.shares)[:-1]

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Targets, drawn independently."""
        return np.searchsorted(self._below, generator.random(shape), side="right")


class DrawnLoss(nn.Module, ABC):
    """A loss of true targets against drawn ones; all randomness is in `draw`."""

    @abstractmethod
    def draw(self, number: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """The targets that `number` true ones are compared with."""

    @abstractmethod
    def forward(self, head: nn.Linear, features: Tensor, wanted: Tensor, drawn: Tensor) -> Tensor:
        """The losses (T,), in nats, of the true targets `wanted` (T,), given their `features` (T, W) and `drawn`."""


class SampledSoftmax(DrawnLoss):
    """Cross-entropy against targets that are drawn once for the whole batch.

    loss = log(exp(s_true) + Σ_drawn exp(s_j - log p_j)) - s_true, with p_j = 1 - (1 - q_j)^num_draws, the probability
    that target j is drawn at all. The correction makes the sum over the drawn targets an unbiased estimate of the sum
    over all others; the bias of its logarithm vanishes with the number of draws. The true target is always scored, so
    its score is not corrected (TensorFlow corrects it too); where it was drawn, it is not counted twice.

    Source: Jean et al. 2015 (arXiv 1412.2007, section 3); `tf.nn.sampled_softmax_loss`; for the score of the true
    target Blanc and Rendle 2018 (arXiv 1712.00527).
    """

    def __init__(self, config: SampledSoftmaxConfig, shares: Shares) -> None:
        super().__init__()
        self.num_draws = config.num_draws
        self.proposal = Proposal(shares if config.proposal == "frequency" else _log_uniform(shares))
        log_expected = np.log(-np.expm1(config.num_draws * np.log1p(-self.proposal.shares)))
        self.register_buffer("log_expected", torch.from_numpy(log_expected).float(), persistent=False)

    def draw(self, number: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:  # noqa: ARG002
        """Distinct targets (S,), at most `num_draws`, in ascending order."""
        return np.unique(self.proposal.draw((self.num_draws,), generator))

    def forward(self, head: nn.Linear, features: Tensor, wanted: Tensor, drawn: Tensor) -> Tensor:
        """The losses (T,); `drawn` (K,) are shared by all true targets."""
        others = nn.functional.linear(features, *_rows(head, drawn)).float()
        others = others - self.get_buffer("log_expected")[drawn]
        others = others.masked_fill(drawn == wanted[:, None], -math.inf)
        own = _scores(head, features, wanted[:, None])
        losses: Tensor = torch.cat([own, others], dim=1).logsumexp(1) - own[:, 0]
        return losses


class NegativeSampling(DrawnLoss):
    """Logistic losses that separate the true target from each drawn one.

    loss = softplus(-(s_true - log e_true)) + Σ_drawn softplus(s_j - log e_j), with e_j the expected number of times
    that target j is drawn. This is Mikolov's loss with shifted biases; as in noise-contrastive estimation, the scores
    of the head become log-probabilities.

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
        """`num_negatives` targets for each true one: (T, K)."""
        return self.proposal.draw((number, self.num_negatives), generator)

    def forward(self, head: nn.Linear, features: Tensor, wanted: Tensor, drawn: Tensor) -> Tensor:
        """The losses (T,); `drawn` (T, K) are those of each true target."""
        scored = torch.cat([wanted[:, None], drawn], dim=1)
        scores = _scores(head, features, scored) - self.get_buffer("log_expected")[scored]
        losses: Tensor = nn.functional.softplus(-scores[:, 0]) + nn.functional.softplus(scores[:, 1:]).sum(1)
        return losses


def _log_uniform(shares: Shares) -> Shares:
    """log(rank + 1) - log(rank) of the rank of each target by frequency, from 1 for the most frequent."""
    ranks = np.empty(len(shares))
    ranks[np.argsort(-shares, kind="stable")] = np.arange(1, len(shares) + 1)
    return np.log1p(1 / ranks)


def _rows(head: nn.Linear, targets: Tensor) -> tuple[Any, Any]:
    """Weights and biases of some targets, of any shape.

    Looked up as embeddings, since the gradient of indexing is summed in an order that depends on threads.
    """
    embedding = nn.functional.embedding
    return embedding(targets, head.weight), embedding(targets, head.bias[:, None])[..., 0]


def _scores(head: nn.Linear, features: Tensor, targets: Tensor) -> Tensor:
    """The scores (T, K) of `targets` (T, K), those of each row by its own `features` (T, W)."""
    weights, biases = _rows(head, targets)
    scores: Tensor = (weights * features[:, None]).sum(-1).float() + biases
    return scores
