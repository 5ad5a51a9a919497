"""The encoders, by `kind`. To add one, write a module with its configuration and class, two lines here, and a test.

A configuration builds its encoder: `config.build(input_width)`. Four kinds combine other encoders:

| kind | features of each character |
|---|---|
| `chain` | of the last part; each part reads the features of the one before |
| `concatenate` | of all parts, next to each other |
| `add` | the sum of all parts, which must have equal widths |
| `residual` | of one part, added to its input |

```yaml
encoder: {kind: chain, parts: [{kind: convolution, width: 64, num_blocks: 1}, {kind: hourglass}]}
```

Parts are configurations, so combining never changes a model: each combination has weights of its own.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from cclm_core.encoders.attention import AttentionConfig as AttentionConfig
from cclm_core.encoders.base import Encoder
from cclm_core.encoders.combinators import Add, Chain, Concatenate, Residual
from cclm_core.encoders.contextual import ContextualConfig as ContextualConfig
from cclm_core.encoders.convolution import ConvolutionConfig as ConvolutionConfig
from cclm_core.encoders.hourglass import HourglassConfig as HourglassConfig
from cclm_core.encoders.identity import IdentityConfig as IdentityConfig
from cclm_core.runtime.blocks import Registered
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError


class _OfParts(Config):
    """A combination of several encoders. It is causal if all of them are."""

    kind: str
    parts: "tuple[EncoderConfig, ...]" = Field(min_length=1, max_length=32, description="the encoders, in order")

    @property
    def causal(self) -> bool:
        """Whether all parts are causal."""
        return all(part.causal for part in self.parts)

    @property
    def learning_rate(self) -> float:
        """The lowest learning rate of the parts."""
        return min(part.learning_rate for part in self.parts)


class ChainConfig(_OfParts):
    """Encoders one after the other: each reads the features of the one before."""

    kind: Literal["chain"] = "chain"

    @property
    def width(self) -> int | None:
        """Features per character; None if they are those of the input."""
        return next((width for part in reversed(self.parts) if (width := width_of(part)) is not None), None)

    def build(self, input_width: int) -> Chain:
        """Builds an encoder of features (B, L, input_width)."""
        built: list[Encoder] = []
        for part in self.parts:
            built.append(part.build(built[-1].width if built else input_width))
        return Chain(built)


class ConcatenateConfig(_OfParts):
    """Encoders of the same input, with their features next to each other."""

    kind: Literal["concatenate"] = "concatenate"

    @property
    def width(self) -> int | None:
        """Features per character; None if they depend on the input."""
        widths = [width_of(part) for part in self.parts]
        return None if None in widths else sum(width for width in widths if width is not None)

    def build(self, input_width: int) -> Concatenate:
        """Builds an encoder of features (B, L, input_width)."""
        return Concatenate([part.build(input_width) for part in self.parts])


class AddConfig(_OfParts):
    """Encoders of the same input, with the sum of their features."""

    kind: Literal["add"] = "add"

    @model_validator(mode="after")
    def _check(self) -> Self:
        widths = [width for part in self.parts if (width := width_of(part)) is not None]
        if len(set(widths)) > 1:
            raise ValueError(f"add needs parts of equal width, got {widths}; use concatenate, or change the widths")
        return self

    @property
    def width(self) -> int | None:
        """Features per character; None if they are those of the input."""
        return next((width for part in self.parts if (width := width_of(part)) is not None), None)

    def build(self, input_width: int) -> Add:
        """Builds an encoder of features (B, L, input_width).

        Raises:
            ConfigError: a part with the encoder `none` has another width than the other parts.
        """
        parts = [part.build(input_width) for part in self.parts]
        if len({part.width for part in parts}) > 1:
            raise ConfigError(
                f"add needs parts of equal width, got {[part.width for part in parts]}, where `none` has the "
                f"{input_width} features of the input. Change the other widths."
            )
        return Add(parts)


class ResidualConfig(Config):
    """An encoder whose features are added to its input."""

    kind: Literal["residual"] = "residual"
    part: "EncoderConfig" = Field(description="the encoder")

    @property
    def causal(self) -> bool:
        """Whether the part is causal."""
        return self.part.causal

    @property
    def learning_rate(self) -> float:
        """The learning rate of the part."""
        return self.part.learning_rate

    @property
    def width(self) -> int | None:
        """Features per character; None if they are those of the input."""
        return width_of(self.part)

    def build(self, input_width: int) -> Residual:
        """Builds an encoder of features (B, L, input_width)."""
        return Residual(input_width, self.part.build(input_width))


def _kind(value: Any) -> str:
    """The kind of a configuration, a mapping or an object. The default is `hourglass`."""
    kind = value.get("kind", "hourglass") if isinstance(value, dict) else getattr(value, "kind", value)
    return str(kind)


EncoderConfig = Annotated[
    Annotated[HourglassConfig, Tag("hourglass")]
    | Annotated[ConvolutionConfig, Tag("convolution")]
    | Annotated[AttentionConfig, Tag("attention")]
    | Annotated[ContextualConfig, Tag("contextual")]
    | Annotated[IdentityConfig, Tag("none")]
    | Annotated[ChainConfig, Tag("chain")]
    | Annotated[ConcatenateConfig, Tag("concatenate")]
    | Annotated[AddConfig, Tag("add")]
    | Annotated[ResidualConfig, Tag("residual")],
    Discriminator(_kind),
    Registered("encoder"),
]
"""Any encoder. This union is the catalogue: the contract tests run over its members."""

for _combination in (ChainConfig, ConcatenateConfig, AddConfig, ResidualConfig):
    _combination.model_rebuild()


def width_of(config: EncoderConfig) -> int | None:
    """Features per character of an encoder; None if they depend on its input."""
    return None if isinstance(config, IdentityConfig) else config.width


def describe(config: EncoderConfig) -> str:
    """A short description for messages, e.g. `hourglass, causal: false`."""
    return f"{config.kind}, causal: {str(config.causal).lower()}"
