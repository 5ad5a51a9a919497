"""Contrastive learning: the vectors of two texts that belong together are near, all others of the batch are far."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cclm_core.encoders.pooling import Pooling, PoolingKind
from cclm_core.runtime.device import full_precision


class Projection(nn.Module):
    """One vector of length 1 per text: pooled features of its characters, in a linear projection.

    Args:
        pooling: how to pool the characters.
        width: features per character.
        size: S, numbers per vector.
    """

    def __init__(self, pooling: PoolingKind, width: int, size: int) -> None:
        super().__init__()
        self.pooling = Pooling(pooling, width)
        self.linear = nn.Linear(self.pooling.width, size)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Projects `features` (N, L, W), where `mask` (N, L) is true, to unit vectors (N, S), at least float32."""
        vectors = self.linear(self.pooling(features, mask))
        return nn.functional.normalize(vectors if vectors.dtype == torch.float64 else vectors.float(), dim=-1)


class Contrast(NamedTuple):
    """The result of `contrast`.

    Attributes:
        losses: (N,) in nats, mean of both directions; log N if all texts are equally near.
        num_correct: how often the nearest vector is the right one, out of 2 N, both directions together.
    """

    losses: Tensor
    num_correct: int


def contrast(first: Tensor, second: Tensor, temperature: float, excluded: Tensor | None = None) -> Contrast:
    """InfoNCE in both directions: cross-entropy of the right partner among all vectors of the other side.

    Args:
        first: (N, S), unit vectors.
        second: (N + K, S), unit vectors: the partner of each first one, then K that have no partner, such as hard
            negatives.
        temperature: above 0; similarities are divided by it.
        excluded: (N, N + K) bool, pairs that are no negatives, such as other texts of the same author; false at
            partners. None excludes none.

    Source: InfoNCE (van den Oord et al. 2018, arXiv 1807.03748), symmetric as in CLIP (Radford et al. 2021,
    arXiv 2103.00020).
    """
    if not len(first):
        return Contrast(first.sum(1), 0)
    partners = torch.arange(len(first), device=first.device)
    with full_precision(first.device):  # bf16 is too coarse for divided similarities
        logits = first @ second.T / temperature
        if excluded is not None:
            logits = logits.masked_fill(excluded, -torch.inf)
        forward, backward = logits, logits[:, : len(first)].T
        losses = [nn.functional.cross_entropy(side, partners, reduction="none") for side in (forward, backward)]
    num_correct = sum(int((side.detach().argmax(1) == partners).sum()) for side in (forward, backward))
    return Contrast((losses[0] + losses[1]) / 2, num_correct)
