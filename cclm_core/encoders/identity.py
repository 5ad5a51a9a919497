"""An encoder that changes nothing: a component then consists of its embedding, or of the features of its base."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from cclm_core.encoders.base import Encoder, at_least_float32
from cclm_core.runtime.config import Config


class IdentityConfig(Config):
    """No encoder: the features are those of the input."""

    learning_rate: ClassVar[float] = 4e-3
    kind: Literal["none"] = "none"
    causal: bool = Field(
        default=False, description="whether the component may only read a causal base or embedding, to be causal itself"
    )

    def build(self, input_width: int) -> "Identity":
        """Builds an encoder of features (B, L, input_width)."""
        return Identity(input_width, self)


class Identity(Encoder):
    """Returns its input, with zeros at padding. It has no weights."""

    def __init__(self, input_width: int, config: IdentityConfig) -> None:
        super().__init__()
        self.width, self.causal = input_width, config.causal

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Returns `features` (B, L, D_in); see `Encoder.forward`."""
        # `where` instead of a product, because features at padding can be infinite.
        kept: Tensor = at_least_float32(features).where(mask.unsqueeze(-1), 0.0)
        return kept
