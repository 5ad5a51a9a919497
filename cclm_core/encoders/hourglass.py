"""The hourglass: characters → fewer positions → transformer → characters again, with a skip."""

from torch import Tensor, nn

from cclm_core.encoders.base import Encoder
from cclm_core.encoders.config import HourglassConfig
from cclm_core.encoders.linear import Linear
from cclm_core.encoders.reach import FullReach
from cclm_core.encoders.segments import Segments
from cclm_core.encoders.transformer import TransformerLayer, rotary_table


class Hourglass(Encoder):
    """Encodes (B, L, D_in) as (B, L, width) through positions that stand for `stride` characters or a word each.

    The causal one looks back only: its convolutions and its transformer see what came before, and a position is
    pooled from the characters up to the first of those that it is given back to. So with stride 4 the characters
    4 to 7 read positions pooled from the characters up to 4, and what is later reaches them by convolution.

    Source: the shape of CANINE (Clark et al. 2021, arXiv 2103.06874) and of the hourglass transformer (Nawrot
    et al. 2021, arXiv 2110.13711; its shift of stride - 1 characters for the causal one), with convolutions in place
    of CANINE's local attention, which tripled its cost. Words as positions: SpaceByte (Slagle 2024, arXiv 2404.14408).
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

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        batch, length, _ = features.shape
        if length == 0 or batch == 0:
            return features.new_zeros(batch, length, self.width)
        keep = mask.unsqueeze(-1)
        local = self.before(features, keep) * keep
        upsampled = self._by_word(local, mask, starts) if self.reads_words else self._by_stride(local, mask)
        output = self.after(upsampled + self.skip(local), keep)
        encoded: Tensor = self.norm(output).float() * keep
        return encoded

    def _by_stride(self, local: Tensor, mask: Tensor) -> Tensor:
        """Down to positions of `stride` characters, through the transformer, and up again: (B, L, width)."""
        batch, length, _ = local.shape
        stride = self.config.stride
        assert isinstance(stride, int)
        whole = length + -length % stride
        # The causal positions are moved back, so that each ends at the first of the characters that read it.
        moved = stride - 1 if self.causal else 0
        around = (moved, whole - length - moved)
        padded = nn.functional.pad(local, (0, 0, *around)).contiguous()
        valid = nn.functional.pad(mask, around).reshape(batch, -1, stride).any(-1)
        positions = self._transform(self.down(padded.view(batch, whole // stride, -1)), valid)
        upsampled: Tensor = self.up(positions)
        return upsampled.view(batch, whole, -1)[:, :length]

    def _by_word(self, local: Tensor, mask: Tensor, starts: Tensor | None) -> Tensor:
        """Down to a position for each word, through the transformer, and up again: (B, L, width)."""
        assert starts is not None, "an hourglass over words needs to know where words start"
        segments = Segments(starts, mask, self.config.word_length)
        lowered = self.down(local + self.places(segments.place))
        positions = self._transform(segments.pool(lowered, self.causal), segments.valid)
        return segments.spread(self.up(positions))

    def _transform(self, positions: Tensor, valid: Tensor) -> Tensor:
        """The transformer over `positions` (B, P, core width), where `valid` (B, P) is true."""
        reach = FullReach(valid, self.causal)
        rotary = rotary_table(positions.shape[1], self.config.core_width // self.config.num_heads, positions.device)
        for layer in self.layers:
            positions = layer(positions, reach, rotary)
        normed: Tensor = self.core_norm(positions)
        return normed


class MixingConvolution(nn.Module):
    """A depthwise convolution over characters and a pointwise layer, added to the input; the causal one looks back.

    The convolution is taken over images of one row with the features innermost, as they lie in memory: so nothing is
    copied, and a training step takes half the time of `Conv1d` (torch 2.13 on two kinds of x86).
    """

    def __init__(self, width: int, kernel_size: int, causal: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.around = (kernel_size - 1, 0) if causal else (kernel_size // 2, kernel_size // 2)
        self.depthwise = nn.Conv1d(width, width, kernel_size, groups=width)
        self.pointwise = Linear(width, width, bias=False)

    def forward(self, features: Tensor, keep: Tensor) -> Tensor:
        """Mixes `features` (B, L, D) with their neighbours where `keep` (B, L, 1) is true; elsewhere anything."""
        row = nn.functional.pad(self.norm(features) * keep, (0, 0, *self.around)).transpose(1, 2).unsqueeze(2)
        weight, bias = self.depthwise.weight.unsqueeze(2), self.depthwise.bias
        mixed = nn.functional.conv2d(row, weight, bias, groups=self.depthwise.groups).squeeze(2).transpose(1, 2)
        together: Tensor = features + self.pointwise(nn.functional.gelu(mixed))
        return together
