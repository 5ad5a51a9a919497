"""Pooling: from features per character to features per text."""

from typing import Literal

import torch
from torch import Tensor, nn

PoolingKind = Literal["mean_max", "mean", "attention"]


class Pooling(nn.Module):
    """Pools features (B, L, W) over the characters of each text. An empty text becomes zeros.

    ```
    mean        the mean                                    W features
    mean_max    the mean and the maximum                    2 W features
    attention   a mean with learned weights, and the mean   2 W features
    ```
    """

    def __init__(self, kind: PoolingKind, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.width = width if kind == "mean" else 2 * width
        if kind == "attention":
            self.query = nn.Linear(width, 1, bias=False)
            nn.init.zeros_(self.query.weight)  # starts as the mean

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Pools `features` (B, L, W), where `mask` (B, L) is true, to (B, P)."""
        if features.shape[1] == 0:
            return features.new_zeros(features.shape[0], self.width)
        keep = mask.unsqueeze(-1)
        counts = keep.sum(1)
        mean = (features * keep).sum(1) / counts.clamp(min=1)
        if self.kind == "mean":
            return mean
        if self.kind == "mean_max":
            lowest = torch.finfo(features.dtype).min
            second = features.masked_fill(~keep, lowest).amax(1).masked_fill(counts == 0, 0)
        else:
            scores = self.query(features).masked_fill(~keep, -1e9)
            second = (torch.softmax(scores, dim=1) * features * keep).sum(1)
        return torch.cat([mean, second], dim=-1)
