"""Features per text, per pair of texts, and per word, from features per character."""

import torch
from torch import Tensor, nn

from cclm_core.encoders.pooling import Pooling as Pooling
from cclm_core.encoders.pooling import PoolingKind as PoolingKind


def pair_features(pooled: Tensor) -> Tensor:
    """[u, v, |u - v|, u * v] (N, 4P) from pooled texts (2N, P): all first texts u, then all second texts v.

    Source: InferSent (Conneau et al. 2017, arXiv 1705.02364).
    """
    first, second = pooled.chunk(2)
    return torch.cat([first, second, (first - second).abs(), first * second], dim=-1)


def word_features(features: Tensor, row: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """The first character, the mean, and the last character of each word, (N, 3W).

    Args:
        features: (B, L, W).
        row, start, stop: (N,) int64, the row of each word and its ids, `stop` excluded.
    """
    first = features[row, start]
    sums = nn.functional.pad(features.float().cumsum(1), (0, 0, 1, 0))
    mean = (sums[row, stop] - sums[row, start]) / (stop - start)[:, None]
    return torch.cat([first, mean.to(first.dtype), features[row, stop - 1]], dim=-1)
