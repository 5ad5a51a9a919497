"""The encoders by kind. A new one is a file, a line in each table here, and its configurations in the contract test."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from cclm_core.encoders.attention import Attention, AttentionConfig
from cclm_core.encoders.base import Encoder
from cclm_core.encoders.config import HourglassConfig
from cclm_core.encoders.convolution import Convolution, ConvolutionConfig
from cclm_core.encoders.hourglass import Hourglass


def _kind(value: Any) -> str:
    """The kind of a configuration, read from a file or built; an hourglass where none is named."""
    kind = value.get("kind", "hourglass") if isinstance(value, dict) else getattr(value, "kind", value)
    return str(kind)


EncoderConfig = Annotated[
    Annotated[HourglassConfig, Tag("hourglass")]
    | Annotated[ConvolutionConfig, Tag("convolution")]
    | Annotated[AttentionConfig, Tag("attention")],
    Discriminator(_kind),
]


def build(input_width: int, config: EncoderConfig) -> Encoder:
    """The encoder that `config` describes, over features (B, L, input_width), with new weights."""
    match config:
        case HourglassConfig():
            return Hourglass(input_width, config)
        case ConvolutionConfig():
            return Convolution(input_width, config)
        case AttentionConfig():
            return Attention(input_width, config)


def describe(config: EncoderConfig) -> str:
    """A few words for a message, e.g. `hourglass, causal: false`."""
    return f"{config.kind}, causal: {str(config.causal).lower()}"
