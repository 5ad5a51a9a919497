"""A component: an encoder over the features of a frozen base, or, if independent, over what it has to itself."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from safetensors.torch import save_file
from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard, ForkConfig, IndependentConfig
from cclm_core.composition.part import Part
from cclm_core.encoders.embedder import Base, Reading, load_weights, weights_digest
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.random import seeded_initialisation

__all__ = ["Component", "ComponentCard", "IndependentConfig", "OverBase", "features_of"]

CARD, WEIGHTS, OWN_BASE = "component.json", "component.safetensors", "base"
_OWN = "embedding."  # how the names of the weights begin that a component has below its encoder


class Component(Part):
    """Turns features (B, L, D), of the base or of what it has to itself, into its own (B, L, width).

    Args:
        card: what it is.
        own_base: for a fork the copy of a base that it carries, and which becomes a part of it; None for the others.

    Raises:
        CompositionError: a fork without its copy, or with that of another width, vocabulary or causality.
    """

    def __init__(self, card: ComponentCard, own_base: Base | None = None) -> None:
        super().__init__()
        _check_own_base(card, own_base)
        self.card = card
        own = card.independent
        new = CharacterEmbedding(own.num_ids, own.embedding) if isinstance(own, IndependentConfig) else None
        self.embedding: nn.Module | None = own_base if new is None else new
        self.body = card.encoder.build(card.base_width)
        self.width = self.body.width

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def causal(self) -> bool:
        return self.body.causal

    @property
    def own_base(self) -> Base | None:
        """The copy of a base that a fork carries."""
        return self.embedding if isinstance(self.embedding, Base) else None

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes `features` (B, L, D) where `mask` (B, L) bool is true; `starts` as in `Encoder.forward`."""
        encoded: Tensor = self.body(features, mask, starts)
        return encoded

    def encode(self, reading: Reading, base: Base) -> Tensor:
        if self.embedding is None:
            features = reading.of(base)
        elif (own := self.own_base) is not None:
            # Bases that it shares with others by their weights are nevertheless its own, to be trained with it.
            features = own.read(Reading(reading.ids, gradients=True))
        else:
            features = self.embedding(reading.ids)
        encoded: Tensor = self(features, reading.mask, reading.word_starts(base) if self.body.reads_words else None)
        return encoded

    def outputs(self, reading: Reading, base: Base) -> dict[str, Tensor]:
        return {"": self.encode(reading, base)}

    def placed(self, base: Base, digest: str, known: dict[str, Base]) -> Part:  # noqa: ARG002
        self.card.check(base, digest)
        return self

    def adopt_base(self, renamed: dict[str, str]) -> None:
        if self.card.base_digest in renamed:
            self.card = self.card.model_copy(update={"base_digest": renamed[self.card.base_digest]})

    @property
    def digest(self) -> str:
        """SHA-256 over its weights, by name."""
        return weights_digest(self)

    @property
    def identity(self) -> str:
        own = self.card.canonical()["independent"] if self.own_base is None else self.own_base.digest
        return weights_digest(self, canonical_json([self.card.encoder.canonical(), own]))

    def untrained(self, seed: int) -> "Component":
        with seeded_initialisation(seed):
            return Component(self.card.model_copy(update={"trained": False}), copy.deepcopy(self.own_base))

    def fork(self, base: Base) -> "Component":
        """A new component that says the same, and carries its own copy of all that this one reads from `base`.

        It stands on no base any more: trained, it changes its copy and nothing else. Every weight of it, those of the
        copy included, asks for a gradient. Neither this component nor `base` is changed.

        Raises:
            CompositionError: it is independent already, or belongs to another base; both sides are named.
        """
        if self.card.independent is not None:
            raise CompositionError(
                f"only a component that stands on a base can be forked; {self.card.described} is independent already."
            )
        digest = base.digest
        self.card.check(base, digest)
        own = {"format": "cclm-component-2", "base_digest": None, "independent": ForkConfig(of=digest)}
        with seeded_initialisation(0):  # its first weights are not kept, and no random number is used up
            forked = Component(self.card.model_copy(update=own), copy.deepcopy(base))
        forked.body = copy.deepcopy(self.body)
        return forked.requires_grad_(True).train(self.training)

    def save(self, folder: Path) -> None:
        """Writes card and weights into `folder`, for a fork its copy of the base too, in a folder of its own."""
        own = self.own_base
        state = self.state_dict()
        if own is not None:
            own.adopt_base()
            (folder / OWN_BASE).mkdir()
            own.save(folder / OWN_BASE)
            state = {name: tensor for name, tensor in state.items() if not name.startswith(_OWN)}
        write_json(folder / CARD, self.card.canonical())
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
            CompositionError: the copy of a base that a fork carries is not the one that it needs.
        """
        card = ComponentCard.parse(read_json(folder / CARD), str(folder / CARD))
        own = None
        if card.is_fork:
            # What a fork carries may be a composition, which consists of components in turn.
            from cclm_core.composition.store import load_base

            own = load_base(folder / OWN_BASE)
        component = cls(card, own)
        load_weights(component, folder / WEIGHTS, None if own is None else own.state_dict(prefix=_OWN))
        return component


def features_of(base: Base, components: Mapping[str, Part], ids: Tensor) -> dict[str, Tensor]:
    """What each component makes of `ids` (B, L) int64: (B, L, its width), by name, in order.

    The base runs once, and without gradients where it is frozen; not at all where every component is independent.
    """
    reading = Reading(ids, gradients=True)
    return {name: part.encode(reading, base) for name, part in components.items()}


class OverBase(nn.Module):
    """A component on its base, as an encoder of ids; the base is no parameter of it, gets no gradient and stays as is.

    Raises:
        CompositionError: a causal component over a base that is not.
    """

    def __init__(self, base: Base, component: Component) -> None:
        super().__init__()
        component.card.check_causal(base)
        self.component = component
        self._base = (base,)  # a tuple hides it from the parameters and the checkpoints

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
        return self.component.card.described

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64 as (B, L, width)."""
        return self.component.encode(Reading(ids), self._base[0])


def _check_own_base(card: ComponentCard, own: Base | None) -> None:
    if card.is_fork != (own is not None):
        raise CompositionError(
            f"a fork, and no other component, must be given the copy of a base that it carries: {card.described} has "
            f"format {card.format} and was given {'none' if own is None else own.described}. Load it from its folder."
        )
    if own is None:
        return
    if (own.width, own.preprocessor.digest) != (card.base_width, card.preprocessor_digest):
        raise CompositionError(
            f"the base that {card.described} carries must have {card.base_width} features and the vocabulary "
            f"{card.preprocessor_digest[:12]}; {own.described} has {own.width} and {own.preprocessor.digest[:12]}."
        )
    if card.encoder.causal and not own.causal:
        raise CompositionError(
            f"a causal component needs a causal base: {card.described} carries {own.described}, whose features show "
            "what comes later."
        )
