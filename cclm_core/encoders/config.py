"""The configuration of an embedder."""

from typing import Self

from pydantic import Field, model_validator

from cclm_core.encoders.catalogue import EncoderConfig
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.encoders.pretrained.catalogue import AnyEmbeddingConfig
from cclm_core.runtime.config import Config


class EmbedderConfig(Config):
    """The architecture of an embedder.

    Attributes:
        embedding: the first layer, selected by its key `kind`.
        encoder: the encoder over the embedding, selected by its key `kind`.
    """

    embedding: AnyEmbeddingConfig = Field(default_factory=EmbeddingConfig)
    encoder: EncoderConfig = Field(default_factory=HourglassConfig)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_causal(self.encoder, self.embedding)
        return self


def check_causal(encoder: EncoderConfig, embedding: AnyEmbeddingConfig) -> None:
    """Checks that a causal encoder does not read features that depend on later characters.

    Raises:
        ValueError: it does.
    """
    if encoder.causal and not embedding.causal:
        raise ValueError(
            f"a causal encoder needs the embedding `characters`, got {embedding.kind}, whose features of a character "
            "depend on later ones. Set `causal: false`, or use another embedding"
        )
