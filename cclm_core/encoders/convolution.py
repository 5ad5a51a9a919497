"""Convolutions over characters, with pooled features of the text broadcast to each character: the original encoder."""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cclm_core.encoders.base import Encoder
from cclm_core.runtime.config import Config

_SLOPE = 0.1  # of the leaky rectifiers, as in the original


class ConvolutionConfig(Config):
    """Blocks of three convolutions; the defaults are the original's sizes."""

    kind: Literal["convolution"] = "convolution"
    num_blocks: int = Field(default=5, ge=1, description="blocks of three convolutions")
    kernel_size: int = Field(default=3, ge=1, description="kernel of the convolutions in characters, an odd number")
    width: int = Field(default=512, ge=8, description="features per character")
    global_width: int = Field(
        default=64,
        ge=0,
        description="pooled features of the whole text that each block adds to every character; 0 disables them",
    )
    causal: bool = Field(default=False, description="whether each character sees only itself and earlier ones")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        if self.causal and self.global_width:
            raise ValueError(
                f"global_width must be 0 in a causal convolution, got {self.global_width}: the broadcast pools the "
                "whole text, including later characters. Set global_width to 0, or causal to false"
            )
        return self

    def build(self, input_width: int) -> "Convolution":
        """Builds an encoder of features (B, L, input_width)."""
        return Convolution(input_width, self)


class Convolution(Encoder):
    """`num_blocks` blocks and a layer norm.

    Unlike the original, it masks padding in every convolution and in the pooling, has no dropout (so that training
    resumes exactly), no position table that limits the length, and a layer norm at the output.

    Source: `get_character_embedder` of cclm 0.1, https://pypi.org/project/cclm/
    """

    def __init__(self, input_width: int, config: ConvolutionConfig) -> None:
        super().__init__()
        self.config, self.width, self.causal = config, config.width, config.causal
        widths = [input_width, *[config.width] * (config.num_blocks - 1)]
        self.blocks = nn.ModuleList(ConvolutionBlock(width, config) for width in widths)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Encodes `features` (B, L, D_in) as (B, L, width); see `Encoder.forward`."""
        batch, length, _ = features.shape
        if length == 0 or batch == 0:
            return features.new_zeros(batch, length, self.width)
        keep = mask.unsqueeze(1)
        hidden = features.transpose(1, 2) * keep
        for block in self.blocks:
            hidden = block(hidden, keep)
        encoded: Tensor = self.norm(hidden.transpose(1, 2)).float() * mask.unsqueeze(-1)
        return encoded


class ConvolutionBlock(nn.Module):
    """Two convolutions, the broadcast, and a third convolution, plus the output of the first."""

    def __init__(self, input_width: int, config: ConvolutionConfig) -> None:
        super().__init__()
        width, kernel = config.width, config.kernel_size
        self.padding = (kernel - 1, 0) if config.causal else (kernel // 2, kernel // 2)
        self.first = nn.Conv1d(input_width, width, kernel)
        self.second = nn.Conv1d(width, width, kernel)
        self.broadcast = nn.Linear(width, config.global_width) if config.global_width else None
        self.third = nn.Conv1d(width + config.global_width, width, kernel)
        for convolution in (self.first, self.second, self.third):
            nn.init.kaiming_normal_(convolution.weight, a=_SLOPE, nonlinearity="leaky_relu")

    def forward(self, features: Tensor, keep: Tensor) -> Tensor:
        """Encodes `features` (B, D_in, L) as (B, D, L), zeros where `keep` (B, 1, L) is false."""
        first = self._convolve(self.first, features, keep)
        hidden = self._convolve(self.second, first, keep)
        if self.broadcast is not None:
            pooled = torch.where(keep, hidden, torch.finfo(hidden.dtype).min).amax(-1)
            pooled = torch.where(keep.any(-1), pooled, 0.0)
            shared = torch.relu(self.broadcast(pooled)).unsqueeze(-1) * keep
            hidden = torch.cat([hidden, shared.to(hidden.dtype)], dim=1)
        return first + self._convolve(self.third, hidden, keep)

    def _convolve(self, convolution: nn.Conv1d, features: Tensor, keep: Tensor) -> Tensor:
        convolved = convolution(nn.functional.pad(features, self.padding))
        return nn.functional.leaky_relu(convolved, _SLOPE) * keep
