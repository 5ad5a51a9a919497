"""The encoders, by `kind`. To add one, write a module with its configuration and class, two lines here, and a test.

A configuration builds its encoder: `config.build(input_width)`.
"""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from cclm_core.encoders.attention import AttentionConfig as AttentionConfig
from cclm_core.encoders.contextual import ContextualConfig as ContextualConfig
from cclm_core.encoders.convolution import ConvolutionConfig as ConvolutionConfig
from cclm_core.encoders.hourglass import HourglassConfig as HourglassConfig


def _kind(value: Any) -> str:
    """The kind of a configuration, a mapping or an object. The default is `hourglass`."""
    kind = value.get("kind", "hourglass") if isinstance(value, dict) else getattr(value, "kind", value)
    return str(kind)


EncoderConfig = Annotated[
    Annotated[HourglassConfig, Tag("hourglass")]
    | Annotated[ConvolutionConfig, Tag("convolution")]
    | Annotated[AttentionConfig, Tag("attention")]
    | Annotated[ContextualConfig, Tag("contextual")],
    Discriminator(_kind),
]
"""Any encoder. This union is the catalogue: the contract tests run over its members."""


def describe(config: EncoderConfig) -> str:
    """A short description for messages, e.g. `hourglass, causal: false`."""
    return f"{config.kind}, causal: {str(config.causal).lower()}"
