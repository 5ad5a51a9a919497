"""Pre-norm transformer layers with rotary positions, shared by the encoders."""

import torch
from torch import Tensor, nn

from cclm_core.encoders.linear import Linear
from cclm_core.encoders.reach import Reach


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network, each after a layer norm and added to its input.

    Source: pre-norm as in GPT-2; rotary positions, Su et al. 2021 (arXiv 2104.09864); squared ReLU, So et al.
    2021 (arXiv 2109.08668).
    """

    def __init__(self, width: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = Linear(width, 3 * width, bias=False)
        self.attention_out = Linear(width, width, bias=False)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward_in = Linear(width, 4 * width, bias=False)
        self.feed_forward_out = Linear(4 * width, width, bias=False)
        nn.init.normal_(self.query_key_value.weight, std=width**-0.5)
        nn.init.normal_(self.feed_forward_in.weight, std=width**-0.5)
        for out in (self.attention_out, self.feed_forward_out):
            nn.init.normal_(out.weight, std=(2 * num_layers * out.in_features) ** -0.5)

    def forward(self, features: Tensor, reach: Reach, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Transforms `features` (B, P, D).

        Args:
            reach: which positions each one attends to.
            rotary: cosines and sines (P, D / heads / 2), from `rotary_table`.
        """
        features = features + self._attend(self.attention_norm(features), reach, rotary)
        hidden = nn.functional.relu(self.feed_forward_in(self.feed_forward_norm(features)))
        transformed: Tensor = features + self.feed_forward_out(hidden * hidden)
        return transformed

    def _attend(self, features: Tensor, reach: Reach, rotary: tuple[Tensor, Tensor]) -> Tensor:
        batch, positions, width = features.shape
        heads = self.query_key_value(features).view(batch, positions, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        query, key = rotate(query, rotary), rotate(key, rotary)
        mixed = reach.mix(query, key, value)
        attended: Tensor = self.attention_out(mixed.transpose(1, 2).reshape(batch, positions, width))
        return attended


def rotary_table(num_positions: int, head_width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (P, head_width / 2) of the angles by which rotary positions turn each pair of features."""
    frequencies = 10000.0 ** -(torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width)
    angles = torch.outer(torch.arange(num_positions, device=device, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()


def rotate(heads: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turns `heads` (B, H, P, E) by the angles of their positions."""
    cosine, sine = (table.to(heads.dtype) for table in rotary)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
