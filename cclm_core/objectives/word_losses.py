"""Losses of a head over thousands of words: the full softmax, or a loss against a few sampled words.

With each loss, the logits of the head estimate log-probabilities up to a constant. So heads trained with different
losses can be compared by one metric, the full softmax.

A configuration builds its loss: `config.build(shares)`. To add a loss, write its configuration and class, a line in
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
    """Cross-entropy over all targets."""

    kind: Literal["full_softmax"] = "full_softmax"

    def build(self, shares: Shares) -> None:
        """Returns None: this loss draws no targets."""


class SampledSoftmaxConfig(Config):
    """Compares true targets with targets drawn once for the whole batch."""

    kind: Literal["sampled_softmax"] = "sampled_softmax"
    num_draws: int = Field(default=2000, ge=1, description="draws per batch; repeated draws count once")
    proposal: Literal["log_uniform", "frequency"] = Field(
        default="log_uniform",
        description="distribution of draws: about 1 / rank by frequency, or the frequency",
    )

    def build(self, shares: Shares) -> "SampledSoftmax":
        """Builds the loss for targets with frequencies `shares` (V,), all above 0."""
        return SampledSoftmax(self, shares)


class NegativeSamplingConfig(Config):
    """Compares each true target with a few targets drawn for it alone."""

    kind: Literal["negative_sampling"] = "negative_sampling"
    num_negatives: int = Field(default=10, ge=1, description="targets drawn for each true target")
    power: float = Field(default=0.75, ge=0, le=1, description="draws are proportional to frequency ** power")

    def build(self, shares: Shares) -> "NegativeSampling":
        """Builds the loss for targets with frequencies `shares` (V,), all above 0."""
        return NegativeSampling(self, shares)


WordLossConfig = Annotated[
    FullSoftmaxConfig | SampledSoftmaxConfig | NegativeSamplingConfig, Field(discriminator="kind")
]
"""Any loss. This union is the catalogue: the contract tests run over its members."""


class Proposal:
    """The distribution of drawn targets, proportional to `shares` (V,)."""

    def __init__(self, shares: Shares) -> None:
        self.shares = shares / shares.sum()
        self._below = np.cumsum(self.shares)[:-1]

    def draw(self, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Independently drawn targets of the given shape."""
        return np.searchsorted(self._below, generator.random(shape), side="right")


class DrawnLoss(nn.Module, ABC):
    """A loss of true targets against drawn targets. All randomness is in `draw`."""

    @abstractmethod
    def draw(self, number: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draws the targets to compare with `number` true targets."""

    @abstractmethod
    def forward(self, head: nn.Linear, features: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
        """The losses (T,) in nats.

        Args:
            head: maps features to logits.
            features: (T, W).
            targets: (T,) int64, the true targets.
            drawn: int64, from `draw`.
        """


class SampledSoftmax(DrawnLoss):
    """Cross-entropy against targets drawn once for the whole batch.

    loss = log(exp(s_true) + Σ_drawn exp(s_j - log p_j)) - s_true, with p_j = 1 - (1 - q_j)^num_draws, the probability
    that target j is drawn at all. The correction makes the sum over drawn targets an unbiased estimate of the sum over
    all others; the bias of its logarithm vanishes as the number of draws grows. The true target is always included, so
    its logit is not corrected (TensorFlow corrects it as well). If it was also drawn, it counts once.

    Source: Jean et al. 2015 (arXiv 1412.2007, section 3); `tf.nn.sampled_softmax_loss`; for the true target, Blanc and
    Rendle 2018 (arXiv 1712.00527).
    """

    def __init__(self, config: SampledSoftmaxConfig, shares: Shares) -> None:
        super().__init__()
        self.num_draws = config.num_draws
        self.proposal = Proposal(shares if config.proposal == "frequency" else _log_uniform(shares))
        log_expected = np.log(-np.expm1(config.num_draws * np.log1p(-self.proposal.shares)))
        self.register_buffer("log_expected", torch.from_numpy(log_expected).float(), persistent=False)

    def draw(self, number: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:  # noqa: ARG002
        """Distinct targets (K,), at most `num_draws`, ascending."""
        return np.unique(self.proposal.draw((self.num_draws,), generator))

    def forward(self, head: nn.Linear, features: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
        """See `DrawnLoss.forward`. All true targets share `drawn` (K,)."""
        others = nn.functional.linear(features, *_rows(head, drawn)).float()
        others = others - self.get_buffer("log_expected")[drawn]
        others = others.masked_fill(drawn == targets[:, None], -math.inf)
        own = _logits(head, features, targets[:, None])
        losses: Tensor = torch.cat([own, others], dim=1).logsumexp(1) - own[:, 0]
        return losses


class NegativeSampling(DrawnLoss):
    """Logistic losses that separate the true target from each drawn target.

    loss = softplus(-(s_true - log e_true)) + Σ_drawn softplus(s_j - log e_j), where e_j is the expected number of draws
    of target j. This is Mikolov's loss with shifted biases. As in noise-contrastive estimation, the logits of the head
    become log-probabilities.

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
        """Draws `num_negatives` targets for each true target: (T, K)."""
        return self.proposal.draw((number, self.num_negatives), generator)

    def forward(self, head: nn.Linear, features: Tensor, targets: Tensor, drawn: Tensor) -> Tensor:
        """See `DrawnLoss.forward`. Each true target has its own row of `drawn` (T, K)."""
        candidates = torch.cat([targets[:, None], drawn], dim=1)
        logits = _logits(head, features, candidates) - self.get_buffer("log_expected")[candidates]
        losses: Tensor = nn.functional.softplus(-logits[:, 0]) + nn.functional.softplus(logits[:, 1:]).sum(1)
        return losses


def _log_uniform(shares: Shares) -> Shares:
    """log(rank + 1) - log(rank) for each target, where the most frequent one has rank 1."""
    ranks = np.empty(len(shares))
    ranks[np.argsort(-shares, kind="stable")] = np.arange(1, len(shares) + 1)
    return np.log1p(1 / ranks)


def _rows(head: nn.Linear, targets: Tensor) -> tuple[Any, Any]:
    """Weights and biases of `targets`, of any shape.

    Uses embedding lookups: the gradient of indexing is summed in an order that depends on the number of threads.
    """
    embedding = nn.functional.embedding
    return embedding(targets, head.weight), embedding(targets, head.bias[:, None])[..., 0]


def _logits(head: nn.Linear, features: Tensor, targets: Tensor) -> Tensor:
    """The logits (T, K) of `targets` (T, K), each row with its own `features` (T, W)."""
    weights, biases = _rows(head, targets)
    logits: Tensor = (weights * features[:, None]).sum(-1).float() + biases
    return logits
