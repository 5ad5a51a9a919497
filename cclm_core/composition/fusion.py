"""Fusions: how to join the features of several parts.

`concatenation` keeps all features. `weighted_sum` and `attention` start as the mean and learn which parts to use when
you train a head on them. `average` averages weights instead of features; the parts must have the same origin.

To add a fusion, write its module and configuration here, a line in `FusionConfig`, and a test.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Discriminator, PlainSerializer
from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.encoders.base import at_least_float32
from cclm_core.encoders.embedder import Model
from cclm_core.runtime.blocks import Registered
from cclm_core.runtime.config import Config
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.random import seeded_initialization

Parts = Mapping[str, Model]
"""The components and compositions to join, by name, in the order of their features. Fusions do not change them."""


class Fusion(nn.Module, ABC):
    """Joins features (B, L, width of the part) into (B, L, `width`)."""

    width: int

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Joins the features of the parts, given by name in their order."""

    def inherit(self, other: "Fusion", before: Sequence[str], now: Sequence[str]) -> None:  # noqa: ARG002
        """Takes over what a fusion of the same kind has learned, as far as it fits.

        Args:
            other: the fusion of the former parts, of the same class; not changed.
            before: names of the former parts.
            now: names of the parts of this fusion.
        """
        weights = other.state_dict()
        if {name: tensor.shape for name, tensor in weights.items()} == _shapes(self):
            self.load_state_dict(weights)


class ConcatenationConfig(Config):
    """Concatenates all features."""

    kind: Literal["concatenation"] = "concatenation"

    def build(self, parts: Parts) -> "Concatenation":
        """Builds the fusion."""
        return Concatenation(parts)


class Concatenation(Fusion):
    """Concatenates all features in the order of the parts."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.width = sum(part.width for part in parts.values())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Concatenates along the width."""
        return torch.cat(list(features.values()), dim=-1)


class WeightedSumConfig(Config):
    """One learned weight per part."""

    kind: Literal["weighted_sum"] = "weighted_sum"

    def build(self, parts: Parts) -> "WeightedSum":
        """Builds the fusion; raises CompositionError if the widths of the parts differ."""
        return WeightedSum(parts)


class WeightedSum(Fusion):
    """`factor * Σ softmax(weights)_p * features_p`, with the same weights for all characters. Initially the mean.

    Raises:
        CompositionError: the widths of the parts differ.

    Source: the scalar mix of ELMo (Peters et al. 2018, arXiv 1802.05365, equation 1).
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.width = _common_width(parts, "weighted_sum")
        self.weights = nn.Parameter(torch.zeros(len(parts)))
        self.factor = nn.Parameter(torch.ones(()))

    def inherit(self, other: Fusion, before: Sequence[str], now: Sequence[str]) -> None:
        """See `Fusion.inherit`. A new part gets the mean weight of the former parts."""
        assert isinstance(other, WeightedSum)
        with torch.no_grad():
            known = dict(zip(before, other.weights, strict=True))
            self.weights.copy_(torch.stack([known.get(name, other.weights.mean()) for name in now]))
            self.factor.copy_(other.factor)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Adds the weighted features."""
        stacked = torch.stack(list(features.values()), dim=-1)
        mixed: Tensor = self.factor.to(stacked.dtype) * (stacked @ self.weights.to(stacked.dtype).softmax(0))
        return mixed


class AttentionConfig(Config):
    """Each character attends to the parts."""

    kind: Literal["attention"] = "attention"

    def build(self, parts: Parts) -> "AttentionFusion":
        """Builds the fusion; raises CompositionError if the widths of the parts differ."""
        return AttentionFusion(parts)


class AttentionFusion(Fusion):
    """Each character attends to the parts, with a query from the mean of its features. Initially the mean.

    Raises:
        CompositionError: the widths of the parts differ.

    Source: AdapterFusion (Pfeiffer et al. 2021, arXiv 2005.00247, section 3.2), including the identity initialization.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.width = _common_width(parts, "attention")
        self.query = nn.Linear(self.width, self.width, bias=False)
        self.key = nn.Linear(self.width, self.width, bias=False)
        self.value = nn.Linear(self.width, self.width, bias=False)
        nn.init.zeros_(self.query.weight)
        nn.init.eye_(self.key.weight)
        nn.init.eye_(self.value.weight)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Mixes the values of the parts by the attention of each character."""
        stacked = torch.stack(list(features.values()), dim=2).to(self.key.weight.dtype)  # (B, L, parts, width)
        query = self.query(stacked.mean(dim=2))
        scores = torch.einsum("blw,blpw->blp", query, self.key(stacked)) / self.width**0.5
        mixed = torch.einsum("blp,blpw->blw", scores.softmax(-1), self.value(stacked))
        return at_least_float32(mixed)


class AverageConfig(Config):
    """One component with the mean weights of all parts."""

    kind: Literal["average"] = "average"

    def build(self, parts: Parts) -> Component:
        """Builds the component that replaces the parts; raises CompositionError if they cannot be averaged."""
        return averaged(parts)


def averaged(parts: Parts) -> Component:
    """A new component with the mean weights of `parts`.

    Raises:
        CompositionError: a part is a composition, or the parts have different architectures or different initial
            weights, for which a mean of weights is meaningless.

    Source: model soups (Wortsman et al. 2022, arXiv 2203.05482).
    """
    components = [part for part in parts.values() if isinstance(part, Component)]
    if len(components) < len(parts):
        compositions = [name for name, part in parts.items() if not isinstance(part, Component)]
        raise CompositionError(
            f"the fusion average only accepts components, got the compositions {', '.join(map(repr, compositions))}. "
            "Use concatenation, weighted_sum or attention."
        )
    first = components[0].card
    for card in (part.card for part in components[1:]):
        if card.encoder != first.encoder or card.independent != first.independent:
            raise CompositionError(
                f"the fusion average needs parts of the same architecture: {first.name!r} has {_architecture(first)}, "
                f"{card.name!r} has {_architecture(card)}. Use concatenation, or train parts with the same encoder."
            )
        if card.origin is None or card.origin != first.origin:
            raise CompositionError(
                f"the fusion average needs parts with the same initial weights: {first.name!r} started from "
                f"{_short(first.origin)}, {card.name!r} from {_short(card.origin)}. Train them with the same `origin`."
            )
    states = [part.state_dict() for part in components]
    mean = copy.deepcopy(components[0])
    mean.card = first.model_copy(update={"name": "average"})
    mean.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return mean


def rebuilt(fusion: nn.Module, config: "_Config", before: Mapping[str, nn.Module], parts: Parts) -> Fusion | Component:
    """The fusion of changed parts, with what `fusion` has learned about the former ones. Arguments are not changed.

    Args:
        fusion: the fusion of the former parts. It is returned if it still fits, so that an optimizer keeps its weights.
        config: its configuration.
        before: the former parts, by name, in their order.
        parts: the parts now.

    Raises:
        CompositionError: the fusion cannot join the parts.
    """
    with seeded_initialization(0):  # keeps the global generator unchanged
        new = config.build(parts)
    is_same = list(before) == list(parts)
    if isinstance(fusion, Component):
        unchanged = [*before.values()] == [*parts.values()]
        return fusion if unchanged else new.to(device_of(fusion)).train(fusion.training)
    assert isinstance(fusion, Fusion) and isinstance(new, Fusion)
    if is_same and fusion.state_dict() and _shapes(fusion) == _shapes(new):
        return fusion
    new.to(device_of(fusion)).inherit(fusion, list(before), list(parts))
    for old in fusion.parameters():
        new.to(old.dtype).requires_grad_(old.requires_grad)
    return new.train(fusion.training)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


_Config = ConcatenationConfig | WeightedSumConfig | AttentionConfig | AverageConfig


def _from_name(fusion: Any) -> Any:
    return {"kind": fusion} if isinstance(fusion, str) else fusion


def _to_name(config: _Config) -> Any:
    values = config.canonical()
    return values if len(values) > 1 else config.kind


FusionConfig = Annotated[
    _Config, Discriminator("kind"), Registered("fusion"), BeforeValidator(_from_name), PlainSerializer(_to_name)
]
"""Any fusion. Write its name, `fusion: concatenation`, or a mapping with `kind` if it has settings."""


def _common_width(parts: Parts, fusion: str) -> int:
    widths = {name: part.width for name, part in parts.items()}
    if len(set(widths.values())) > 1:
        raise CompositionError(f"the fusion {fusion} needs parts of equal width, got {widths}. Use concatenation.")
    return next(iter(widths.values()))


def _architecture(card: ComponentCard) -> dict[str, Any]:
    return {name: value for name, value in card.canonical().items() if name in ("encoder", "independent")}


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "unknown weights"
