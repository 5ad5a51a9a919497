"""A component: an encoder over the features of a frozen base, or over its own embedding or base."""

import copy
from collections.abc import Callable, Mapping
from typing import Self

from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard, ForkConfig, IndependentConfig
from cclm_core.encoders.contexts import Contexts
from cclm_core.encoders.contextual import ContextFeatures, Contextual
from cclm_core.encoders.embedder import Base, Model, Reading
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import CompositionError, ConfigError
from cclm_core.runtime.random import seeded_initialization


class Component(Model):
    """Maps features (B, L, D) of the base, or of its own embedding, to features (B, L, width).

    Args:
        card: the architecture.
        own_base: the copy of a base that a fork owns; None for all other components.

    Raises:
        CompositionError: `own_base` is missing, unexpected, or does not fit the card.
    """

    def __init__(self, card: ComponentCard, own_base: Base | None = None) -> None:
        super().__init__()
        _check_own_base(card, own_base)
        self.card = card
        own = card.independent
        new = CharacterEmbedding(own.num_ids, own.embedding) if isinstance(own, IndependentConfig) else None
        self.embedding: nn.Module | None = own_base if new is None else new
        self.body = card.encoder.build(card.base_width)

    @property
    def name(self) -> str:
        """The name in a composition."""
        return self.card.name

    @property
    def width(self) -> int:
        """Features per character."""
        return self.body.width

    @property
    def causal(self) -> bool:
        """Whether the encoder is causal."""
        return self.body.causal

    @property
    def described(self) -> str:
        """See `ComponentCard.described`."""
        return self.card.described

    @property
    def own_base(self) -> Base | None:
        """The copy of a base that a fork owns; None for all other components."""
        return self.embedding if isinstance(self.embedding, Base) else None

    @property
    def digest(self) -> str:
        """SHA-256 of the architecture and the weights."""
        own = self.card.canonical()["independent"] if self.own_base is None else self.own_base.digest
        return self._digest_of(self, canonical_json([self.card.encoder.canonical(), own]))

    def forward(self, features: Tensor, mask: Tensor, starts: Tensor | None = None) -> Tensor:
        """Encodes `features` (B, L, D) as (B, L, width); see `Encoder.forward`."""
        encoded: Tensor = self.body(features, mask, starts)
        return encoded

    def encode(self, reading: Reading, base: Base) -> Tensor:
        """See `Model.encode`."""
        features = self._input(reading, base)
        if reading.contexts is not None and self.body.reads_contexts:
            contexts = self._context_features(reading.contexts, reading, base)
            encoded: Tensor = self.body(features, reading.mask, None, contexts)
        else:
            encoded = self(features, reading.mask, reading.word_starts(base) if self.body.reads_words else None)
        return encoded

    def encode_contexts(self, ids: Tensor, base: Base, gradients: bool = False) -> Tensor:
        """Encodes contexts, each on its own: (N, width), to reuse them as `Contexts.encodings`.

        Args:
            ids: (N, L) int64, 0 for padding.
            base: the base of the component.
            gradients: whether gradients reach the base.

        Raises:
            ConfigError: the component does not read contexts.
        """
        reading = Reading(ids, gradients)
        encodings: Tensor = self.contextual.encode_contexts(self._input(reading, base), reading.mask)
        return encodings

    @property
    def contextual(self) -> Contextual:
        """The encoder, of a component that reads contexts.

        Raises:
            ConfigError: the component does not read contexts.
        """
        if not isinstance(self.body, Contextual):
            raise ConfigError(
                f"{self.described} does not read contexts. Train one with `encoder: {{kind: contextual}}`."
            )
        return self.body

    def _input(self, reading: Reading, base: Base) -> Tensor:
        """What the encoder reads, (B, L, D): features of the base, of its own copy of it, or of its own embedding."""
        if self.embedding is None:
            return reading.features(base)
        if self.own_base is not None:
            # The copy is trained with its fork, so it never shares features with a base of equal digest.
            features: Tensor = self.own_base(reading.ids, Reading(reading.ids, gradients=True))
        else:
            features = self.embedding(reading.ids)
        return features

    def _context_features(self, contexts: Contexts, reading: Reading, base: Base) -> ContextFeatures:
        assert contexts.present is not None
        features = mask = None
        if contexts.ids is not None:
            rows, number, length = contexts.ids.shape
            flat = self._input(reading.context_reading, base)
            features = flat.reshape(rows, number, length, flat.shape[-1])
            mask = reading.context_reading.mask.reshape(rows, number, length)
        return ContextFeatures(features, mask, contexts.encodings, contexts.present, contexts.types)

    def adopt_base(self) -> None:
        """See `Model.adopt_base`. Only a fork has a base of its own."""
        if self.own_base is not None:
            self.own_base.adopt_base()

    def untrained(self, seed: int) -> "Component":
        """A control with the same architecture and random weights from `seed`. A fork keeps its base."""
        with seeded_initialization(seed):
            return Component(self.card.model_copy(update={"trained": False}), copy.deepcopy(self.own_base))

    def extra_repr(self) -> str:
        """Name, objective, size and digest, for `repr`."""
        return f"{self.name!r}, objective={self.card.objective!r}, {self._summary()}"

    def fork(self, base: Base) -> "Component":
        """A new component with the same output and its own copy of `base`.

        All its weights, including the copy, require a gradient, and training changes nothing else. This component and
        `base` are not changed.

        Raises:
            CompositionError: the component is already independent, or was trained on another base.
        """
        if self.card.independent is not None:
            raise CompositionError(
                f"cannot fork {self.described}: it is already independent. Fork a component that reads a base."
            )
        self.card.check(base)
        own = {"format": "cclm-component-2", "base_digest": None, "independent": ForkConfig(of=base.digest)}
        with seeded_initialization(0):  # keeps the global generator unchanged; the initial weights are replaced
            forked = Component(self.card.model_copy(update=own), copy.deepcopy(base))
        forked.body = copy.deepcopy(self.body)
        return forked.requires_grad_(True).train(self.training)


def features_of(
    base: Base, components: Mapping[str, Model], ids: Tensor, contexts: Contexts | None = None
) -> dict[str, Tensor]:
    """The features (B, L, width) of each component for `ids` (B, L) int64, by name, in order.

    The base runs once, with gradients unless it is frozen. It does not run if all components are independent.
    """
    reading = Reading(ids, gradients=True, contexts=contexts)
    return {name: part.encode(reading, base) for name, part in components.items()}


class OverBase(nn.Module):
    """A component with its base as an encoder of ids. The base is not among its parameters and gets no gradient.

    Raises:
        CompositionError: the component is causal and the base is bidirectional.
    """

    def __init__(self, base: Base, component: Component) -> None:
        super().__init__()
        component.card.check_causal(base)
        self.component = component
        self._base = (base,)  # a tuple hides the base from parameters and checkpoints

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the hidden base together with the module."""
        self._base[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def encode_contexts(self, ids: Tensor) -> Tensor:
        """See `Component.encode_contexts`."""
        return self.component.encode_contexts(ids, self.base)

    @property
    def base(self) -> Base:
        """The base of the component."""
        return self._base[0]

    @property
    def causal(self) -> bool:
        """Whether the component is causal."""
        return self.component.causal

    @property
    def described(self) -> str:
        """See `ComponentCard.described`."""
        return self.component.described

    def forward(self, ids: Tensor, contexts: Contexts | None = None) -> Tensor:
        """Embeds `ids` (B, L) int64, with their contexts if the component reads them, as (B, L, width)."""
        return self.component.encode(Reading(ids, contexts=contexts), self.base)


def _check_own_base(card: ComponentCard, own: Base | None) -> None:
    if card.is_fork != (own is not None):
        raise CompositionError(
            f"a fork, and only a fork, needs its own copy of a base: {card.described} has format {card.format}, got "
            f"{'no base' if own is None else own.described}. Use `load` to read it with its base."
        )
    if own is None:
        return
    if (own.width, own.preprocessor.digest) != (card.base_width, card.preprocessor_digest):
        raise CompositionError(
            f"the base of {card.described} must have {card.base_width} features and vocabulary "
            f"{card.preprocessor_digest[:12]}, got {own.described} with {own.width} features and vocabulary "
            f"{own.preprocessor.digest[:12]}. Use the base that it was forked with."
        )
    if card.encoder.causal and not own.causal:
        raise CompositionError(
            f"cannot build a causal component on a bidirectional base: {card.described} has its own copy of "
            f"{own.described}. Use the base that it was forked with."
        )
