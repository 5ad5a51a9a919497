"""A component: an encoder over the features of a frozen base, or, if independent, over an embedding of its own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cclm_core.artifacts import read_json, write_json
from cclm_core.config import Config
from cclm_core.embedder import Embedder, weights_digest
from cclm_core.encoders.catalogue import EncoderConfig, build, describe
from cclm_core.encoders.config import EmbeddingConfig
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.errors import CompositionError
from cclm_core.random import seeded_initialisation

CARD, WEIGHTS = "component.json", "component.safetensors"


class IndependentConfig(Config):
    """The embedding that a component has to itself."""

    num_ids: int = Field(ge=1, description="size of the vocabulary")
    embedding: EmbeddingConfig


class ComponentCard(Config):
    """What a component is, and on which base it was trained."""

    format: Literal["cclm-component-1"] = "cclm-component-1"
    name: str = Field(description="its name in a composition")
    objective: str = Field(description="what it was trained on")
    base_width: int = Field(ge=1, description="features per character that its encoder reads")
    base_digest: str | None = Field(description="digest of the base that it was trained on; null if independent")
    preprocessor_digest: str = Field(description="digest of the vocabulary")
    encoder: EncoderConfig
    independent: IndependentConfig | None = Field(default=None, description="its own embedding; null over the base")
    trained: bool = Field(default=True, description="false for a control with new weights")
    origin: str | None = Field(default=None, description="digest of the weights that training started from")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.independent is None) == (self.base_digest is None):
            raise ValueError(
                "a component must have either the digest of its base or, if independent, an embedding of its own, "
                f"got base_digest {self.base_digest} and independent {self.independent}"
            )
        if self.independent is not None and self.independent.embedding.width != self.base_width:
            raise ValueError(
                "the encoder of an independent component must read the width of its embedding, "
                f"got {self.base_width} and {self.independent.embedding.width}"
            )
        return self

    @classmethod
    def over(
        cls, base: Embedder, name: str, objective: str, encoder: EncoderConfig, independent: bool = False
    ) -> "ComponentCard":
        """The card of a component that is to be trained beside or over `base`.

        Args:
            base: the frozen embedder.
            name: what the component is called.
            objective: what it is to be trained on.
            encoder: its shape.
            independent: whether it gets a new embedding of its own, of the shape of the base's, in place of the
                features of the base.

        Raises:
            CompositionError: a causal component over a base that is not.
        """
        own = base.config.embedding
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

    def check_causal(self, base: Embedder) -> None:
        """Refuses a causal component over a base that lets it see what comes later.

        Raises:
            CompositionError: both sides are named.
        """
        if self.encoder.causal and self.independent is None and not base.causal:
            raise CompositionError(
                f"a causal component needs a causal base: the component {self.name!r} ({describe(self.encoder)}) reads "
                f"the base {base.digest[:12]} ({describe(base.config.encoder)}), whose features show what comes later. "
                "Give the base a causal encoder, or the component `independent: true`, an embedding of its own."
            )


class Component(nn.Module):
    """Turns features (B, L, D), of the base or of its own embedding, into its own (B, L, width)."""

    def __init__(self, card: ComponentCard) -> None:
        super().__init__()
        self.card = card
        own = card.independent
        self.embedding = CharacterEmbedding(own.num_ids, own.embedding) if own else None
        self.body = build(card.base_width, card.encoder)
        self.width = self.body.width

    @property
    def causal(self) -> bool:
        """Whether its features of a character depend on it and those before it alone."""
        return self.body.causal

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes `features` (B, L, D) where `mask` (B, L) bool is true; `starts` as in `Encoder.forward`."""
        encoded: Tensor = self.body(features, mask, starts)
        return encoded

    @property
    def digest(self) -> str:
        """SHA-256 over its weights, by name."""
        return weights_digest(self)

    def untrained(self, seed: int) -> "Component":
        """A control: the same shape with new weights that depend on `seed` alone."""
        with seeded_initialisation(seed):
            return Component(self.card.model_copy(update={"trained": False}))

    def save(self, folder: Path) -> None:
        """Writes card and weights into `folder`."""
        write_json(folder / CARD, self.card.canonical())
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        component = cls(ComponentCard.parse(read_json(folder / CARD), str(folder / CARD)))
        component.load_state_dict(load_file(folder / WEIGHTS))
        return component


def features_of(base: Embedder, components: Mapping[str, Component], ids: Tensor) -> dict[str, Tensor]:
    """What each component makes of `ids` (B, L) int64: (B, L, its width), by name, in order.

    The base runs once, and without gradients where it is frozen; not at all where every component is independent.
    """
    mask, parts = ids != 0, components.values()
    shared = base(ids) if any(part.embedding is None for part in parts) else None
    starts = base.word_starts(ids) if any(part.body.reads_words for part in parts) else None
    encoded = {}
    for name, part in components.items():
        features = shared if part.embedding is None else part.embedding(ids)
        assert features is not None
        encoded[name] = part(features, mask, starts)
    return encoded


class OverBase(nn.Module):
    """A component on its frozen base, as an encoder of ids; the base is no parameter of it and gets no gradient.

    Raises:
        CompositionError: a causal component over a base that is not.
    """

    def __init__(self, base: Embedder, component: Component) -> None:
        super().__init__()
        component.card.check_causal(base)
        self.component = component
        self._base = (base.freeze(),)  # a tuple hides it from the parameters and the checkpoints

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What moves a module to another device moves the hidden base too."""
        self._base[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    @property
    def causal(self) -> bool:
        """Whether the features of a character depend on it and those before it alone."""
        return self.component.causal

    @property
    def described(self) -> str:
        """A few words for a message, e.g. `the component 'ner' (attention, causal: false)`."""
        return f"the component {self.component.card.name!r} ({describe(self.component.card.encoder)})"

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64 as (B, L, width)."""
        return features_of(self._base[0], {"": self.component}, ids)[""]
