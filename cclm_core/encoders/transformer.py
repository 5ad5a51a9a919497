"""Pre-norm transformer layers with rotary positions and full or local attention, shared by the encoders."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from cclm_core.encoders.linear import Linear

_MASKED = -1e9  # the softmax weight is 0, and the score is finite in bfloat16


class AttentionPattern(ABC):
    """Scaled dot-product attention, softmax(QKᵀ / √E) V, restricted to visible positions."""

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention output (B, H, P, E) for `query`, `key` and `value`, each (B, H, P, E)."""


class FullAttention(AttentionPattern):
    """Every position sees every valid position, or, if `causal`, only itself and earlier ones.

    On the CPU the product is explicit, which trains a third faster than the fused kernel (torch 2.13). CUDA devices use
    the fused kernel.

    Args:
        valid: (B, P) bool, false at padding.
        causal: whether later positions are hidden.
    """

    def __init__(self, valid: Tensor, causal: bool) -> None:
        self.bias = torch.where(valid, 0.0, _MASKED)[:, None, None, :]
        if causal:
            later = torch.ones(valid.shape[1], valid.shape[1], dtype=torch.bool, device=valid.device).triu(1)
            self.bias = torch.where(later, _MASKED, self.bias)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionPattern.attend`."""
        if query.is_cuda:
            return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=self.bias.to(query.dtype))
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return torch.softmax(scores.float() + self.bias, dim=-1).to(value.dtype) @ value


class LocalAttention(AttentionPattern):
    """Every position sees `window // 2` positions on each side, or, if `causal`, itself and the `window - 1` before it.

    Queries are grouped into blocks that attend to neighboring blocks, so memory is O(P * window) instead of O(P²).

    Args:
        valid: (B, P) bool, false at padding.
        window: number of positions, at least 2.
        causal: whether later positions are hidden.

    Source: sliding windows as in Longformer (Beltagy et al. 2020, arXiv 2004.05150).
    """

    def __init__(self, valid: Tensor, window: int, causal: bool) -> None:
        self.block = window if causal else window // 2
        self.after = 0 if causal else self.block
        self.span = 2 * self.block + self.after
        rows, columns = (torch.arange(size, device=valid.device) for size in (self.block, self.span))
        back = rows[:, None] - (columns - self.block)
        near = (back >= -self.after) & (back < window if causal else back <= self.block)
        visible = self._neighborhoods(valid[:, None, :, None])[..., 0, :]
        self.bias = torch.where(near & visible[..., None, :], 0.0, _MASKED)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionPattern.attend`."""
        batch, heads, positions, width = query.shape
        extra = -positions % self.block
        blocks = nn.functional.pad(query, (0, 0, 0, extra)).view(batch, heads, -1, self.block, width)
        scores = blocks @ self._neighborhoods(key) * width**-0.5
        weights = torch.softmax(scores.float() + self.bias, dim=-1).to(value.dtype)
        mixed = weights @ self._neighborhoods(value).transpose(-1, -2)
        return mixed.view(batch, heads, -1, width)[:, :, :positions]

    def _neighborhoods(self, sequence: Tensor) -> Tensor:
        """The `span` positions of `sequence` (B, H, P, E) visible to each of its N blocks: (B, H, N, E, span)."""
        extra = -sequence.shape[2] % self.block
        padded = nn.functional.pad(sequence, (0, 0, self.block, extra + self.after))
        return padded.unfold(2, self.span, self.block)


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

    def forward(self, features: Tensor, attention: AttentionPattern, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Transforms features as (B, P, D).

        Args:
            features: (B, P, D).
            attention: which positions each position sees.
            rotary: cosines and sines, each (P, D / heads / 2), from `rotary_table`.
        """
        features = features + self._attend(self.attention_norm(features), attention, rotary)
        hidden = nn.functional.relu(self.feed_forward_in(self.feed_forward_norm(features)))
        transformed: Tensor = features + self.feed_forward_out(hidden * hidden)
        return transformed

    def _attend(self, features: Tensor, attention: AttentionPattern, rotary: tuple[Tensor, Tensor]) -> Tensor:
        batch, positions, width = features.shape
        heads = self.query_key_value(features).view(batch, positions, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        query, key = rotate(query, rotary), rotate(key, rotary)
        mixed = attention.attend(query, key, value)
        attended: Tensor = self.attention_out(mixed.transpose(1, 2).reshape(batch, positions, width))
        return attended


def rotary_table(num_positions: int, head_width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (P, head_width / 2) of p · 10000^(-2i / head_width) for position p and pair i."""
    frequencies = 10000.0 ** -(torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width)
    angles = torch.outer(torch.arange(num_positions, device=device, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()


def rotate(heads: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates the feature pairs (i, i + E/2) of `heads` (B, H, P, E) by the angles of their positions."""
    cosine, sine = (table.to(heads.dtype) for table in rotary)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
