"""A plain transformer over characters, with full or local attention."""

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from cclm_core.encoders.base import Encoder
from cclm_core.encoders.linear import Linear
from cclm_core.encoders.transformer import FullAttention, LocalAttention, TransformerLayer, rotary_table
from cclm_core.runtime.config import Config


class AttentionConfig(Config):
    """A transformer with one position per character."""

    kind: Literal["attention"] = "attention"
    num_layers: int = Field(default=4, ge=1, description="transformer layers")
    num_heads: int = Field(default=4, ge=1, description="attention heads")
    width: int = Field(default=256, ge=8, description="features per character, divisible by 2 * num_heads")
    window: int | None = Field(
        default=None,
        ge=2,
        description="characters that each character attends to: half on each side, or the preceding ones if causal; "
        "null: the whole text, at quadratic cost",
    )
    causal: bool = Field(default=False, description="whether each character sees only itself and earlier ones")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % (2 * self.num_heads):
            raise ValueError(
                f"width must be divisible by 2 * num_heads = {2 * self.num_heads} (rotary embeddings rotate pairs of "
                f"features), got {self.width}"
            )
        return self

    def build(self, input_width: int) -> "Attention":
        """Builds an encoder of features (B, L, input_width)."""
        return Attention(input_width, self)


class Attention(Encoder):
    """A linear projection to `width` features and `num_layers` transformer layers, at full resolution."""

    def __init__(self, input_width: int, config: AttentionConfig) -> None:
        super().__init__()
        self.config, self.width, self.causal = config, config.width, config.causal
        self.enter = Linear(input_width, config.width, bias=False)
        self.layers = nn.ModuleList(
            TransformerLayer(config.width, config.num_heads, config.num_layers) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Encodes `features` (B, L, D_in) as (B, L, width); see `Encoder.forward`."""
        batch, length, _ = features.shape
        if length == 0 or batch == 0:
            return features.new_zeros(batch, length, self.width)
        keep = mask.unsqueeze(-1)
        hidden = self.enter(features * keep)
        window, causal = self.config.window, self.causal
        attention = FullAttention(mask, causal) if window is None else LocalAttention(mask, window, causal)
        rotary = rotary_table(length, self.width // self.config.num_heads, features.device)
        for layer in self.layers:
            hidden = layer(hidden, attention, rotary)
        encoded: Tensor = self.norm(hidden).float() * keep
        return encoded
