"""The hourglass: characters → fewer positions → transformer → characters again, with a skip."""

import torch
from torch import Tensor, nn

from cclm_core.encoders.config import HourglassConfig
from cclm_core.encoders.transformer import TransformerLayer, rotary_table


class Hourglass(nn.Module):
    """Encodes (B, L, D_in) as (B, L, width), for any L ≥ 0, the same with any amount of padding behind a text.

    Source: the shape of CANINE (Clark et al. 2021, arXiv 2103.06874) and of the hourglass transformer (Nawrot
    et al. 2021, arXiv 2110.13711), with convolutions in place of CANINE's local attention, which tripled its cost.
    """

    def __init__(self, input_width: int, config: HourglassConfig) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        core, kernel = config.core_width, config.kernel_size
        self.before = MixingConvolution(input_width, kernel)
        self.down = nn.Linear(config.stride * input_width, core, bias=False)
        self.layers = nn.ModuleList(
            TransformerLayer(core, config.num_heads, config.num_layers) for _ in range(config.num_layers)
        )
        self.core_norm = nn.LayerNorm(core)
        self.up = nn.Linear(core, config.stride * config.width, bias=False)
        self.skip = nn.Linear(input_width, config.width, bias=False)
        self.after = MixingConvolution(config.width, kernel)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Encodes `features` (B, L, D_in) where `mask` (B, L) bool is true; the rest comes out as zeros."""
        batch, length, _ = features.shape
        if length == 0 or batch == 0:
            return features.new_zeros(batch, length, self.width)
        stride = self.config.stride
        extra = -length % stride
        keep = mask.unsqueeze(-1)
        local = self.before(features * keep, keep)
        padded = nn.functional.pad(local, (0, 0, 0, extra))
        positions = self.down(padded.view(batch, (length + extra) // stride, -1))
        valid = nn.functional.pad(mask, (0, extra)).view(batch, -1, stride).any(-1)
        bias = torch.where(valid, 0.0, -1e9)[:, None, None, :]
        rotary = rotary_table(positions.shape[1], self.config.core_width // self.config.num_heads, features.device)
        for layer in self.layers:
            positions = layer(positions, bias, rotary)
        upsampled = self.up(self.core_norm(positions)).view(batch, length + extra, -1)[:, :length]
        output = self.after((upsampled + self.skip(local)) * keep, keep)
        encoded: Tensor = self.norm(output).float() * keep
        return encoded


class MixingConvolution(nn.Module):
    """A depthwise convolution over characters and a pointwise layer, added to the input."""

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.depthwise = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.pointwise = nn.Linear(width, width, bias=False)

    def forward(self, features: Tensor, keep: Tensor) -> Tensor:
        """Mixes `features` (B, L, D) with their neighbours where `keep` (B, L, 1) is true; elsewhere 0 comes out."""
        normed = (self.norm(features) * keep).transpose(1, 2)
        mixed = nn.functional.gelu(self.depthwise(normed).transpose(1, 2))
        together: Tensor = (features + self.pointwise(mixed)) * keep
        return together
