"""The card of a component: its architecture, and the base that it was trained on."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from cclm_core.encoders.catalogue import EncoderConfig, describe
from cclm_core.encoders.config import check_causal
from cclm_core.encoders.embedder import Base
from cclm_core.encoders.pretrained.catalogue import AnyEmbeddingConfig, PretrainedConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import CompositionError
from cclm_core.text.vocabulary import Preprocessor


class IndependentConfig(Config):
    """The embedding of an independent component."""

    num_ids: int = Field(ge=1, description="size of the vocabulary")
    embedding: AnyEmbeddingConfig


class BackwardConfig(IndependentConfig):
    """The embedding of an independent component that reads backward."""

    direction: Literal["backward"] = Field(description="the component reads the ids of each text from the last one")


class ForkConfig(Config):
    """The base of a fork: its own copy, saved with it."""

    kind: Literal["fork"] = "fork"
    of: str = Field(description="digest of the base at the time of the copy")


def _kind(value: Any) -> str:
    """The tag of a value, a mapping or an object."""
    keys = value if isinstance(value, dict) else type(value).model_fields if isinstance(value, Config) else {}
    return "fork" if "of" in keys else "backward" if "direction" in keys else "embedding"


OwnConfig = Annotated[
    Annotated[IndependentConfig, Tag("embedding")]
    | Annotated[BackwardConfig, Tag("backward")]
    | Annotated[ForkConfig, Tag("fork")],
    Discriminator(_kind),
]


class ComponentCard(Config):
    """The architecture of a component, and the base that it was trained on.

    Only forks use `cclm-component-2`, and only components with a pretrained embedding `cclm-component-3`, so that
    versions of CCLM without them refuse them.
    """

    format: Literal["cclm-component-1", "cclm-component-2", "cclm-component-3"] = "cclm-component-1"
    name: str = Field(description="the name in a composition")
    objective: str = Field(description="the objective that trained it")
    base_width: int = Field(ge=1, description="features per character that the encoder reads")
    base_digest: str | None = Field(description="digest of the base it was trained on; null if independent")
    preprocessor_digest: str = Field(description="digest of the vocabulary")
    encoder: EncoderConfig
    independent: OwnConfig | None = Field(
        default=None, description="its own embedding or copy of a base; null if it reads a shared base"
    )
    trained: bool = Field(default=True, description="false for a control with random weights")
    origin: str | None = Field(default=None, description="digest of the initial weights")

    @model_validator(mode="after")
    def _check(self) -> Self:
        own = self.independent
        if (own is None) == (self.base_digest is None):
            raise ValueError(
                "a component must have either `base_digest` or `independent`, got base_digest "
                f"{self.base_digest} and independent {own}"
            )
        if isinstance(own, IndependentConfig) and own.embedding.width != self.base_width:
            raise ValueError(
                f"base_width must equal the width of the component's embedding, {own.embedding.width}, got "
                f"{self.base_width}"
            )
        if self.is_fork != (self.format == "cclm-component-2"):
            raise ValueError(f"only forks have format cclm-component-2, got {self.format} and independent {own}")
        if (self.pretrained is not None) != (self.format == "cclm-component-3"):
            raise ValueError(
                f"only components with a pretrained embedding have format cclm-component-3, got {self.format} and "
                f"independent {own}"
            )
        if isinstance(own, IndependentConfig):
            check_causal(self.encoder, own.embedding)
        return self

    @property
    def is_fork(self) -> bool:
        """Whether the component has its own copy of a base."""
        return isinstance(self.independent, ForkConfig)

    @property
    def pretrained(self) -> PretrainedConfig | None:
        """The configuration of its pretrained embedding; None if it has none."""
        own = self.independent
        is_pretrained = isinstance(own, IndependentConfig) and isinstance(own.embedding, PretrainedConfig)
        return own.embedding if is_pretrained else None  # type: ignore[union-attr, return-value]

    @property
    def reads_backward(self) -> bool:
        """Whether the component reads the ids of each text from the last one to the first."""
        return isinstance(self.independent, BackwardConfig)

    @property
    def described(self) -> str:
        """Name and encoder for messages, e.g. `the component 'ner' (attention, causal: false)`."""
        return f"the component {self.name!r} ({describe(self.encoder)})"

    @classmethod
    def over(
        cls,
        base: Base,
        name: str,
        objective: str,
        encoder: EncoderConfig,
        independent: bool = False,
        embedding: AnyEmbeddingConfig | None = None,
        backward: bool = False,
    ) -> "ComponentCard":
        """The card of a new component over `base`.

        Args:
            base: the embedder or composition.
            name: the name of the component.
            objective: the objective that trains it.
            encoder: the architecture.
            independent: whether the component gets its own embedding, configured like that of the base, instead of
                reading the features of the base. It then shares only the vocabulary.
            embedding: its own embedding, configured otherwise; without a source. It makes the component independent.
            backward: whether the component reads each text from its end; only an independent one can.

        Raises:
            CompositionError: the component is causal and the base is bidirectional; it has the pretrained embedding of
                the base, which only the base includes; or it reads backward and is not independent.
            ConfigError: the component is causal and its embedding is not.
        """
        own = embedding or base.embedder.config.embedding
        if embedding is None and independent and isinstance(own, PretrainedConfig):
            raise CompositionError(
                f"`independent: true` copies the configuration of the embedding of the base, which is {own.kind}. Name "
                "the source in `embedding` of the component instead."
            )
        independent = independent or embedding is not None
        if backward and (not independent or isinstance(own, PretrainedConfig)):
            raise CompositionError(
                f"a component that reads backward needs its own embedding of characters: {name!r} would read features "
                "which know earlier characters. Set `independent: true`, without a pretrained embedding."
            )
        values: dict[str, Any] = {"num_ids": base.preprocessor.num_ids, "embedding": own}
        kept = BackwardConfig(**values, direction="backward") if backward else IndependentConfig(**values)
        card = cls(
            format="cclm-component-3" if isinstance(embedding, PretrainedConfig) else "cclm-component-1",
            name=name,
            objective=objective,
            base_width=(own.width or 0) if independent else base.width,
            base_digest=None if independent else base.digest,
            preprocessor_digest=base.preprocessor.digest,
            encoder=encoder,
            independent=kept if independent else None,
        )
        card.check_causal(base)
        return card

    def check(self, base: Base) -> None:
        """Checks that the component fits a base. An independent component only needs the same vocabulary.

        Raises:
            CompositionError: the component was trained with another vocabulary or base, or it is causal and the base is
                bidirectional. The message names both.
        """
        if self.preprocessor_digest != base.preprocessor.digest:
            raise CompositionError(
                f"the component {self.name!r} must share the vocabulary of the base: it was trained with vocabulary "
                f"{self.preprocessor_digest[:12]}, the base has {base.preprocessor.digest[:12]}. Retrain the component."
            )
        if self.base_digest is None:
            return
        self.check_causal(base)
        if self.base_digest != base.digest:
            raise CompositionError(
                f"the component {self.name!r} was trained on another base: expected {self.base_digest[:12]}, got "
                f"{base.digest[:12]}. Retrain the component, or use the base it was trained on."
            )

    def check_causal(self, base: Base) -> None:
        """Checks that a causal component does not read a bidirectional base.

        Raises:
            CompositionError: it does; the message names both.
        """
        if self.encoder.causal and self.independent is None and not base.causal:
            raise CompositionError(
                f"cannot build a causal component on a bidirectional base: {self.described} reads {base.described}, "
                f"digest {base.digest[:12]}. Give the base a causal encoder, or set `independent: true` to give the "
                "component its own embedding."
            )


def check_vocabulary(name: str, preprocessor: Preprocessor, base: Base) -> None:
    """Checks that a composition and a base have the same vocabulary.

    Args:
        name: the name of the composition.
        preprocessor: its vocabulary.
        base: what it is to be composed with.

    Raises:
        CompositionError: the vocabularies differ.
    """
    if preprocessor.digest != base.preprocessor.digest:
        raise CompositionError(
            f"the composition {name!r} must share the vocabulary of the base: it has vocabulary "
            f"{_summary(preprocessor)}, {base.described} has {_summary(base.preprocessor)}. Compose parts "
            "with the same vocabulary."
        )


def _summary(preprocessor: Preprocessor) -> str:
    """A vocabulary in an error message."""
    form = preprocessor.config.normalisation or "none"
    return f"{preprocessor.digest[:12]} ({len(preprocessor.alphabet)} characters, normalisation {form})"
