"""The hourglass: characters → fewer positions → transformer → characters, with a skip connection."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cclm_core.encoders.base import Encoder, at_least_float32
from cclm_core.encoders.linear import Linear
from cclm_core.encoders.transformer import FullAttention, TransformerLayer, rotary_table
from cclm_core.runtime.config import Config

Between = Callable[[int, Tensor, Tensor], Tensor]
"""Called after each layer with its number, the positions (B, P, D) and which are valid (B, P); returns positions."""


class HourglassConfig(Config):
    """Convolution over characters, downsampling, a transformer over positions, upsampling with a skip connection."""

    learning_rate: ClassVar[float] = 4e-3
    kind: Literal["hourglass"] = "hourglass"
    kernel_size: int = Field(
        default=7, ge=1, le=1023, description="kernel of the convolutions in characters, an odd number"
    )
    stride: Annotated[int, Field(ge=1, le=16)] | Literal["word"] = Field(
        default=4, description="characters per position of the transformer; `word` makes each word one position"
    )
    word_length: int = Field(
        default=16,
        ge=2,
        le=256,
        description="with `word`: maximum characters per position; longer words are split",
    )
    core_width: int = Field(
        default=256, ge=16, le=8192, description="features per position, divisible by 2 * num_heads"
    )
    num_layers: int = Field(default=4, ge=1, le=128, description="transformer layers")
    num_heads: int = Field(default=4, ge=1, le=256, description="attention heads")
    width: int = Field(default=192, ge=8, le=8192, description="features per character in the output")
    causal: bool = Field(default=False, description="whether each character sees only itself and earlier ones")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        if self.core_width % (2 * self.num_heads):
            raise ValueError(
                f"core_width must be divisible by 2 * num_heads = {2 * self.num_heads} (rotary embeddings rotate pairs "
                f"of features), got {self.core_width}"
            )
        return self

    def build(self, input_width: int) -> "Hourglass":
        """Builds an encoder of features (B, L, input_width)."""
        return Hourglass(input_width, self)


class Hourglass(Encoder):
    """Encodes (B, L, D_in) as (B, L, width) through positions of `stride` characters, or one word, each.

    In the causal variant, convolutions and transformer look back only, and a position pools the characters up to the
    first one that reads it. With stride 4, characters 4 to 7 read positions that pool characters up to 4; characters 5
    to 7 reach each other through the convolutions.

    Source: CANINE (Clark et al. 2021, arXiv 2103.06874) and the hourglass transformer (Nawrot et al. 2021, arXiv
    2110.13711; including the causal shift of stride - 1 characters). Convolutions replace CANINE's local attention,
    which tripled the cost. Words as positions: SpaceByte (Slagle 2024, arXiv 2404.14408).
    """

    def __init__(self, input_width: int, config: HourglassConfig) -> None:
        super().__init__()
        self.config, self.width, self.causal = config, config.width, config.causal
        self.reads_words = config.stride == "word"
        core, kernel = config.core_width, config.kernel_size
        per_position = 1 if config.stride == "word" else config.stride
        self.before = MixingConvolution(input_width, kernel, config.causal)
        self.down = Linear(per_position * input_width, core, bias=False)
        self.layers = nn.ModuleList(
            TransformerLayer(core, config.num_heads, config.num_layers) for _ in range(config.num_layers)
        )
        self.core_norm = nn.LayerNorm(core)
        self.up = Linear(core, per_position * config.width, bias=False)
        self.skip = Linear(input_width, config.width, bias=False)
        self.after = MixingConvolution(config.width, kernel, config.causal)
        self.norm = nn.LayerNorm(config.width)
        if self.reads_words:
            self.places = nn.Embedding(config.word_length, input_width)

    def forward(
        self, features: Tensor, mask: Tensor, starts: Tensor | None = None, between: Between | None = None
    ) -> Tensor:
        """Encodes `features` (B, L, D_in) as (B, L, width); see `Encoder.forward`. `between`: see `Between`."""
        batch, length, _ = features.shape
        if length == 0 or batch == 0:
            return at_least_float32(self.norm.weight.new_zeros(batch, length, self.width))
        keep = mask.unsqueeze(-1)
        local = self.before(features.to(self.norm.weight.dtype), keep) * keep
        upsampled = (
            self._by_word(local, mask, starts, between) if self.reads_words else self._by_stride(local, mask, between)
        )
        output = self.after(upsampled + self.skip(local), keep)
        encoded: Tensor = at_least_float32(self.norm(output)) * keep
        return encoded

    def _by_stride(self, local: Tensor, mask: Tensor, between: Between | None) -> Tensor:
        """Downsamples `stride` characters per position, transforms, and upsamples: (B, L, width)."""
        batch, length, _ = local.shape
        stride = self.config.stride
        assert isinstance(stride, int)
        num_positions = (length + stride - 1) // stride
        # Causal positions are shifted so that each ends at the first character that reads it.
        shift = stride - 1 if self.causal else 0
        padded = _padded(local, shift, stride)
        valid = _padded(mask[..., None], shift, stride).view(batch, num_positions, stride).any(-1)
        entered = self.down(padded.view(batch, num_positions, stride * local.shape[2]))
        positions = self._transform(entered, valid, between)
        upsampled: Tensor = self.up(positions)
        return _first(upsampled.view(batch, num_positions * stride, self.width), length)

    def _by_word(self, local: Tensor, mask: Tensor, starts: Tensor | None, between: Between | None) -> Tensor:
        """Downsamples each word to one position, transforms, and upsamples: (B, L, width)."""
        assert starts is not None, "stride: word requires `starts`"
        segments = Segments(starts, mask, self.config.word_length)
        pooled = segments.pool(self.down(local + self.places(segments.offsets)), self.causal)
        positions = self._transform(pooled.to(self.core_norm.weight.dtype), segments.valid, between)
        return segments.upsample(self.up(positions))

    def _transform(self, positions: Tensor, valid: Tensor, between: Between | None) -> Tensor:
        """Applies the transformer to `positions` (B, P, core width) where `valid` (B, P) is true."""
        attention = FullAttention(valid, self.causal)
        rotary = rotary_table(positions.shape[1], self.config.core_width // self.config.num_heads, positions.device)
        for number, layer in enumerate(self.layers):
            positions = layer(positions, attention, rotary)
            if between is not None:
                positions = between(number, positions, valid)
        normed: Tensor = self.core_norm(positions)
        return normed


def _padded(sequence: Tensor, shift: int, stride: int) -> Tensor:
    """Moves `sequence` (B, L, D) right by `shift` < `stride` and pads or cuts it to the next multiple of `stride`."""
    length = sequence.shape[1]
    whole = (length + stride - 1) // stride * stride
    if torch.compiler.is_compiling():  # a padding that does not depend on the length
        return _first(nn.functional.pad(sequence, (0, 0, shift, stride - 1 - shift)), whole)
    return nn.functional.pad(sequence, (0, 0, shift, whole - length - shift)).contiguous()


def _first(sequence: Tensor, length: int) -> Tensor:
    """The first `length` positions of `sequence` (B, L, D)."""
    if torch.compiler.is_compiling():  # one graph for all lengths: a slice compares `length` with L
        return sequence.index_select(1, torch.arange(length, device=sequence.device))
    return sequence[:, :length]


class MixingConvolution(nn.Module):
    """A depthwise convolution over characters and a pointwise layer, added to the input.

    The convolution treats the text as an image with one row, in channels-last layout. That matches the features in
    memory, so nothing is copied, and a training step takes half the time of `Conv1d` (torch 2.13 on two kinds of x86).
    """

    def __init__(self, width: int, kernel_size: int, causal: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.padding = (kernel_size - 1, 0) if causal else (kernel_size // 2, kernel_size // 2)
        self.depthwise = nn.Conv1d(width, width, kernel_size, groups=width)
        self.pointwise = Linear(width, width, bias=False)

    def forward(self, features: Tensor, keep: Tensor) -> Tensor:
        """Mixes `features` (B, L, D) with their neighbors where `keep` (B, L, 1) is true; undefined elsewhere."""
        row = nn.functional.pad(self.norm(features) * keep, (0, 0, *self.padding)).transpose(1, 2).unsqueeze(2)
        weight, bias = self.depthwise.weight.unsqueeze(2), self.depthwise.bias
        mixed = nn.functional.conv2d(row, weight, bias, groups=self.depthwise.groups).squeeze(2).transpose(1, 2)
        output: Tensor = features + self.pointwise(nn.functional.gelu(mixed))
        return output


class Segments:
    """Splits the rows of a batch at word starts.

    A segment is a word and the characters up to the next word. The first segment starts with the text. Segments longer
    than `max_length` are split. "to be, or" → "to ", "be, ", "or".

    Args:
        starts: (B, L) bool, true where words start, L ≥ 1.
        mask: (B, L) bool, true at characters, false at the padding after them.
        max_length: maximum number of characters per segment.

    Attributes:
        offsets: (B, L) int64, offset of each character in its segment, less than `max_length`.
        valid: (B, P) bool, which positions hold a segment; P is the largest number of segments in a row.
    """

    def __init__(self, starts: Tensor, mask: Tensor, max_length: int) -> None:
        columns = torch.arange(starts.shape[1], device=starts.device).expand_as(starts)
        latest_start = torch.where(starts, columns, 0).cummax(1).values
        self.offsets = (columns - latest_start) % max_length
        self._mask, self._is_first = mask, (self.offsets == 0) & mask
        self._segment = (self._is_first.cumsum(1) - 1).clamp(min=0)
        counts = self._is_first.sum(1)
        self.valid = torch.arange(max(1, int(counts.max())), device=starts.device) < counts[:, None]

    def pool(self, features: Tensor, causal: bool) -> Tensor:
        """The mean (B, P, D) float32 or float64 of the `features` (B, L, D) of each segment.

        If `causal`, a segment pools its own first character and all but the first of the previous segment, so that no
        character of the segment sees a later one.
        """
        batch, _, width = features.shape
        rows = self.valid.shape[1] + 1  # one extra row for characters that no segment reads
        segment = self._segment + (~self._is_first).long() if causal else self._segment
        flat = (segment + rows * torch.arange(batch, device=segment.device)[:, None])[self._mask]
        selected = at_least_float32(features[self._mask])
        sums = selected.new_zeros(batch * rows, width).index_add(0, flat, selected)
        sizes = torch.bincount(flat, minlength=batch * rows).clamp(min=1)
        return (sums / sizes[:, None]).view(batch, rows, width)[:, :-1]

    def upsample(self, positions: Tensor) -> Tensor:
        """Repeats `positions` (B, P, D) for every character of its segment: (B, L, D)."""
        return positions.gather(1, self._segment[..., None].expand(-1, -1, positions.shape[2]))
