"""The card of a component: what it is, and on which base it was trained."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from cclm_core.encoders.catalogue import EncoderConfig, describe
from cclm_core.encoders.embedder import Base
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import CompositionError


class IndependentConfig(Config):
    """The embedding of an independent component."""

    num_ids: int = Field(ge=1, description="size of the vocabulary")
    embedding: EmbeddingConfig


class ForkConfig(Config):
    """The base of a fork: its own copy of the base that it was trained on, saved with it."""

    kind: Literal["fork"] = "fork"
    of: str = Field(description="digest of the base that was copied, as it was then")


def _kind(value: Any) -> str:
    """The tag of a value, read from a file or built."""
    return "fork" if isinstance(value, ForkConfig) or (isinstance(value, dict) and "of" in value) else "embedding"


OwnConfig = Annotated[
    Annotated[IndependentConfig, Tag("embedding")] | Annotated[ForkConfig, Tag("fork")], Discriminator(_kind)
]


class ComponentCard(Config):
    """What a component is, and on which base it was trained.

    Only forks have the second format, so that versions of CCLM without forks refuse them.
    """

    format: Literal["cclm-component-1", "cclm-component-2"] = "cclm-component-1"
    name: str = Field(description="its name in a composition")
    objective: str = Field(description="what it was trained on")
    base_width: int = Field(ge=1, description="features per character that its encoder reads")
    base_digest: str | None = Field(description="digest of the base that it was trained on; null if independent")
    preprocessor_digest: str = Field(description="digest of the vocabulary")
    encoder: EncoderConfig
    independent: OwnConfig | None = Field(
        default=None, description="its own embedding, or its own copy of a base; null over the base"
    )
    trained: bool = Field(default=True, description="false for a control with new weights")
    origin: str | None = Field(default=None, description="digest of the weights that training started from")

    @model_validator(mode="after")
    def _check(self) -> Self:
        own = self.independent
        if (own is None) == (self.base_digest is None):
            raise ValueError(
                "a component must have either the digest of its base or, if independent, an embedding of its own, "
                f"got base_digest {self.base_digest} and independent {own}"
            )
        if isinstance(own, IndependentConfig) and own.embedding.width != self.base_width:
            raise ValueError(
                "the encoder of an independent component must read the width of its embedding, "
                f"got {self.base_width} and {own.embedding.width}"
            )
        if self.is_fork != (self.format == "cclm-component-2"):
            raise ValueError(f"a fork, and no other, has the format cclm-component-2, got {self.format} and {own}")
        return self

    @property
    def is_fork(self) -> bool:
        """Whether it carries its own copy of a base."""
        return isinstance(self.independent, ForkConfig)

    @property
    def described(self) -> str:
        """A few words for a message, e.g. `the component 'ner' (attention, causal: false)`."""
        return f"the component {self.name!r} ({describe(self.encoder)})"

    @classmethod
    def over(
        cls, base: Base, name: str, objective: str, encoder: EncoderConfig, independent: bool = False
    ) -> "ComponentCard":
        """The card of a new component over `base`, or, if independent, of one that only shares its vocabulary.

        Args:
            base: the frozen embedder, or composition.
            name: the name of the component.
            objective: the objective that trains it.
            encoder: its shape.
            independent: whether it gets an embedding of its own, of the shape of the base's, instead of reading the
                features of the base.

        Raises:
            CompositionError: a causal component over a bidirectional base.
        """
        own = base.embedder.config.embedding
        card = cls(
            name=name,
            objective=objective,
            base_width=own.width if independent else base.width,
            base_digest=None if independent else base.digest,
            preprocessor_digest=base.preprocessor.digest,
            encoder=encoder,
            independent=IndependentConfig(num_ids=base.preprocessor.num_ids, embedding=own) if independent else None,
        )
        card.check_causal(base)
        return card

    def check(self, base: Base) -> None:
        """Refuses a base that the component was not trained on; an independent one only needs its vocabulary.

        Raises:
            CompositionError: another vocabulary or another base, or a causal component over a bidirectional base. Both
                sides are named.
        """
        if self.preprocessor_digest != base.preprocessor.digest:
            raise CompositionError(
                f"the component {self.name!r} must share the vocabulary of the base: it was trained with "
                f"{self.preprocessor_digest[:12]}, the base has {base.preprocessor.digest[:12]}. Retrain the component."
            )
        if self.base_digest is None:
            return
        self.check_causal(base)
        if self.base_digest != base.digest:
            raise CompositionError(
                f"the component {self.name!r} must have been trained on this base: it was trained on "
                f"{self.base_digest[:12]}, this one is {base.digest[:12]}. Retrain the component."
            )

    def check_causal(self, base: Base) -> None:
        """Refuses a causal component over a base whose features depend on later characters.

        Raises:
            CompositionError: both sides are named.
        """
        if self.encoder.causal and self.independent is None and not base.causal:
            raise CompositionError(
                f"a causal component needs a causal base: {self.described} cannot read {base.described}, digest "
                f"{base.digest[:12]}, whose features depend on later characters. "
                "Give the base a causal encoder, or the component `independent: true`, an embedding of its own."
            )
