"""The cards of components and compositions: what each is, and on which base it stands."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from torch import nn

from cclm_core.encoders.catalogue import EncoderConfig, describe
from cclm_core.encoders.embedder import Base
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ArtifactError, CompositionError

FusionName = Literal["concatenation", "weighted_sum", "attention", "average"]

Kind = Literal["embedder", "component", "composition"]

_KINDS: tuple[Kind, ...] = ("embedder", "component", "composition")
_NAME = re.compile(r"[^./\\\x00-\x1f\x7f]+")
_TAKEN = nn.ModuleDict()


def _checked(names: Sequence[str]) -> Sequence[str]:
    if not names:
        raise ValueError("a composition must have at least one component, got none.")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"the parts of a composition must have different names, got {name!r} twice.")
        if not _NAME.fullmatch(name):
            raise ValueError(f"the name of a part must not be empty or have one of `.`, `/` and `\\`, got {name!r}.")
        if hasattr(_TAKEN, name):
            raise ValueError(f"{name!r} must not be the name of a part: torch's modules use it. Rename the part.")
    return names


class IndependentConfig(Config):
    """The embedding that a component has to itself."""

    num_ids: int = Field(ge=1, description="size of the vocabulary")
    embedding: EmbeddingConfig


class ForkConfig(Config):
    """The base that a component has to itself: a copy of the one that it was trained on, saved beside it."""

    kind: Literal["fork"] = "fork"
    of: str = Field(description="digest of the base that was copied, as it was then")


def _kind(value: Any) -> str:
    """Which of the two a value is, read from a file or built."""
    return "fork" if isinstance(value, ForkConfig) or (isinstance(value, dict) and "of" in value) else "embedding"


OwnConfig = Annotated[
    Annotated[IndependentConfig, Tag("embedding")] | Annotated[ForkConfig, Tag("fork")], Discriminator(_kind)
]


class ComponentCard(Config):
    """What a component is, and on which base it was trained.

    The second format is that of forks alone, so that a version of CCLM that knows none of them says so.
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
        """The card of a component that is to be trained beside or over `base`.

        Args:
            base: the frozen embedder, or composition.
            name: what the component is called.
            objective: what it is to be trained on.
            encoder: its shape.
            independent: whether it gets a new embedding of its own, of the shape of the base's, in place of the
                features of the base.

        Raises:
            CompositionError: a causal component over a base that is not.
        """
        own = base.embedding_config
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

    def check(self, base: Base, digest: str | None = None) -> None:
        """Refuses a base that the component cannot stand on, or beside if it is independent.

        Args:
            base: the embedder, or composition.
            digest: that of `base`, where the caller knows it: it takes a pass over all weights.

        Raises:
            CompositionError: another vocabulary, another base than the one it was trained on, or a causal component
                over a base that is not. Both sides are named.
        """
        if self.preprocessor_digest != base.preprocessor.digest:
            raise CompositionError(
                f"the component {self.name!r} must share the vocabulary of the base: it was trained with "
                f"{self.preprocessor_digest[:12]}, the base has {base.preprocessor.digest[:12]}. Retrain it."
            )
        if self.base_digest is None:
            return
        self.check_causal(base)
        digest = digest or base.digest
        if self.base_digest != digest:
            raise CompositionError(
                f"the component {self.name!r} must have been trained on this base: it was trained on "
                f"{self.base_digest[:12]}, this one is {digest[:12]}. Retrain it."
            )

    def check_causal(self, base: Base) -> None:
        """Refuses a causal component over a base that lets it see what comes later.

        Raises:
            CompositionError: both sides are named.
        """
        if self.encoder.causal and self.independent is None and not base.causal:
            raise CompositionError(
                f"a causal component needs a causal base: {self.described} reads {base.title} {base.digest[:12]} "
                f"({base.shape}), whose features show what comes later. "
                "Give the base a causal encoder, or the component `independent: true`, an embedding of its own."
            )


class CompositionCard(Config):
    """What a composition is made of.

    The second format is that of compositions in which the base or a part is a composition itself.
    """

    format: Literal["cclm-composition-1", "cclm-composition-2"] = "cclm-composition-1"
    name: str
    fusion: FusionName
    parts: Annotated[tuple[str, ...], AfterValidator(_checked)] = Field(
        description="names of the parts, in the order of their features"
    )
    base_digest: str


def check_names(names: Sequence[str]) -> None:
    """Checks the names of the parts of a composition, which become the names of folders and of weights.

    Raises:
        CompositionError: no name, one that comes twice, or one that cannot be a name.
    """
    try:
        _checked(names)
    except ValueError as error:
        raise CompositionError(str(error)) from None


def kind_of(folder: Path) -> Kind:
    """What a folder holds, by the card that stands in it.

    Raises:
        ArtifactError: no card of ours, or several.
    """
    cards = {f"{kind}.json": kind for kind in _KINDS}
    found = [name for name in cards if (folder / name).is_file()]
    if len(found) != 1:
        raise ArtifactError(
            f"{folder} must hold one of {', '.join(cards)}, got {', '.join(found) or 'none'}. Name a folder that "
            "`save` or a stage wrote."
        )
    return cards[found[0]]
