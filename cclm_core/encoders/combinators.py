"""Encoders that consist of encoders: one after the other, next to each other, or with a shortcut around one.

Their configurations are in the catalogue, because they contain any encoder.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cclm_core.encoders.base import Encoder, at_least_float32
from cclm_core.encoders.linear import Linear


class Combined(Encoder):
    """An encoder that consists of encoders. It is causal if all of them are.

    Args:
        parts: the encoders, at least one.
        width: features per character in the output.
    """

    def __init__(self, parts: Sequence[Encoder], width: int) -> None:
        super().__init__()
        self.width = width
        self.causal = all(part.causal for part in parts)
        self.reads_words = any(part.reads_words for part in parts)
        self.parts = nn.ModuleList(parts)


class Chain(Combined):
    """Encoders one after the other: each reads the features of the one before."""

    def __init__(self, parts: Sequence[Encoder]) -> None:
        super().__init__(parts, parts[-1].width)

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes features (B, L, D_in) as (B, L, width); see `Encoder.forward`."""
        for part in self.parts:
            features = part(features, mask, starts)
        return features


class Concatenate(Combined):
    """Encoders of the same input, with their features next to each other."""

    def __init__(self, parts: Sequence[Encoder]) -> None:
        super().__init__(parts, sum(part.width for part in parts))

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes features (B, L, D_in) as (B, L, width); see `Encoder.forward`."""
        return torch.cat([part(features, mask, starts) for part in self.parts], dim=-1)


class Add(Combined):
    """Encoders of the same input and of equal width, with the sum of their features."""

    def __init__(self, parts: Sequence[Encoder]) -> None:
        super().__init__(parts, parts[0].width)

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes features (B, L, D_in) as (B, L, width); see `Encoder.forward`."""
        encoded = [part(features, mask, starts) for part in self.parts]
        total: Tensor = sum(encoded[1:], encoded[0])
        return total


class Residual(Combined):
    """An encoder whose features are added to its input, which passes a linear layer if the widths differ."""

    def __init__(self, input_width: int, part: Encoder) -> None:
        super().__init__([part], part.width)
        self.shortcut = None if input_width == part.width else Linear(input_width, part.width, bias=False)

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes features (B, L, D_in) as (B, L, width); see `Encoder.forward`."""
        encoded: Tensor = self.parts[0](features, mask, starts)
        weight = next(self.parts.parameters())
        visible = features.to(weight.dtype).masked_fill(~mask.unsqueeze(-1), 0)
        return encoded + at_least_float32(visible if self.shortcut is None else self.shortcut(visible))
