"""A component: an encoder over the features of a frozen base, or over an embedding or a base of its own."""

import copy
from collections.abc import Callable, Mapping
from typing import Self

from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard, ForkConfig, IndependentConfig
from cclm_core.encoders.embedder import Base, Model, Reading
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.random import seeded_initialisation


class Component(Model):
    """Turns features (B, L, D), of the base or of its own embedding, into its own (B, L, width).

    Args:
        card: what it is.
        own_base: for a fork its copy of a base, which becomes part of it; None for all others.

    Raises:
        CompositionError: a fork without its copy, or with one of another width, vocabulary or causality.
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
        """Its name in a composition."""
        return self.card.name

    @property
    def causal(self) -> bool:
        return self.body.causal

    @property
    def described(self) -> str:
        return self.card.described

    @property
    def own_base(self) -> Base | None:
        """The copy of a base that a fork carries."""
        return self.embedding if isinstance(self.embedding, Base) else None

    @property
    def digest(self) -> str:
        own = self.card.canonical()["independent"] if self.own_base is None else self.own_base.digest
        return self._digest_of(self, canonical_json([self.card.encoder.canonical(), own]))

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes `features` (B, L, D) where `mask` (B, L) bool is true; `starts` as in `Encoder.forward`."""
        encoded: Tensor = self.body(features, mask, starts)
        return encoded

    def encode(self, reading: Reading, base: Base) -> Tensor:
        if self.embedding is None:
            features = reading.of(base)
        elif self.own_base is not None:
            # The copy is trained with its fork, so it is read apart even from bases of equal digest.
            features = self.own_base(reading.ids, Reading(reading.ids, gradients=True))
        else:
            features = self.embedding(reading.ids)
        encoded: Tensor = self(features, reading.mask, reading.word_starts(base) if self.body.reads_words else None)
        return encoded

    def adopt_base(self) -> None:
        if self.own_base is not None:
            self.own_base.adopt_base()

    def untrained(self, seed: int) -> "Component":
        """A control: the same shape, with new weights that depend only on `seed`. A fork keeps its base."""
        with seeded_initialisation(seed):
            return Component(self.card.model_copy(update={"trained": False}), copy.deepcopy(self.own_base))

    def fork(self, base: Base) -> "Component":
        """A new component with the same output and its own copy of everything that this one reads from `base`.

        Training it changes its copy and nothing else. Every weight of it, including the copy, requires a gradient.
        Neither this component nor `base` is changed.

        Raises:
            CompositionError: it is independent already, or was trained on another base; both sides are named.
        """
        if self.card.independent is not None:
            raise CompositionError(
                f"only a component that reads a base can be forked; {self.described} is independent already."
            )
        self.card.check(base)
        own = {"format": "cclm-component-2", "base_digest": None, "independent": ForkConfig(of=base.digest)}
        with seeded_initialisation(0):  # its first weights are not kept, and no random number is used up
            forked = Component(self.card.model_copy(update=own), copy.deepcopy(base))
        forked.body = copy.deepcopy(self.body)
        return forked.requires_grad_(True).train(self.training)


def features_of(base: Base, components: Mapping[str, Model], ids: Tensor) -> dict[str, Tensor]:
    """The features (B, L, its width) of each component for `ids` (B, L) int64, by name, in order.

    The base runs once, with gradients unless it is frozen; not at all if every component is independent.
    """
    reading = Reading(ids, gradients=True)
    return {name: part.encode(reading, base) for name, part in components.items()}


class OverBase(nn.Module):
    """A component with its base, as an encoder of ids. The base is not among its parameters and gets no gradient.

    Raises:
        CompositionError: a causal component over a bidirectional base.
    """

    def __init__(self, base: Base, component: Component) -> None:
        super().__init__()
        component.card.check_causal(base)
        self.component = component
        self._base = (base,)  # a tuple hides it from the parameters and the checkpoints

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the hidden base along when the module is moved to another device."""
        self._base[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    @property
    def base(self) -> Base:
        """The base that the component reads."""
        return self._base[0]

    @property
    def causal(self) -> bool:
        """Whether the features of a character depend only on it and the characters before it."""
        return self.component.causal

    @property
    def described(self) -> str:
        """Its name and shape for messages, e.g. `the component 'ner' (attention, causal: false)`."""
        return self.component.described

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64 as (B, L, width)."""
        return self.component.encode(Reading(ids), self.base)


def _check_own_base(card: ComponentCard, own: Base | None) -> None:
    if card.is_fork != (own is not None):
        raise CompositionError(
            f"a fork, and no other component, is built with its copy of a base: {card.described} has format "
            f"{card.format} and was given {'none' if own is None else own.described}. Load it from its folder."
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
            f"a causal component needs a causal base: {card.described} carries {own.described}, whose features depend "
            "on later characters."
        )
