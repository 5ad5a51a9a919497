"""Fusions: how the features of several parts become one.

`concatenation` keeps them all. `weighted_sum` and `attention` start as the plain mean and learn which parts to use
when a head is trained on them. `average` joins the weights of parts with one origin instead of their features.

To add a fusion: a module and its configuration here, a line in `FusionConfig`, its test.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Discriminator, PlainSerializer
from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.encoders.embedder import Model
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import CompositionError

Parts = Mapping[str, Model]
"""The components and compositions that are joined, by name, in the order of their features; they are not changed."""


class Fusion(nn.Module, ABC):
    """Joins features (B, L, width of each part) into (B, L, `width`)."""

    width: int

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Joins the features of the parts, by name, in order."""


class ConcatenationConfig(Config):
    """All features next to each other."""

    kind: Literal["concatenation"] = "concatenation"

    def build(self, parts: Parts) -> "Concatenation":
        """The fusion of `parts`."""
        return Concatenation(parts)


class Concatenation(Fusion):
    """All features next to each other, in the order of the parts."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.width = sum(part.width for part in parts.values())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.cat(list(features.values()), dim=-1)


class WeightedSumConfig(Config):
    """A learned weight for each part."""

    kind: Literal["weighted_sum"] = "weighted_sum"

    def build(self, parts: Parts) -> "WeightedSum":
        """The fusion of `parts`, with new weights; raises CompositionError if their widths differ."""
        return WeightedSum(parts)


class WeightedSum(Fusion):
    """`factor * Σ softmax(weights)_p * features_p`: the same weights for all characters; at first the mean.

    Raises:
        CompositionError: parts of different widths.

    Source: the scalar mix of ELMo (Peters et al. 2018, arXiv 1802.05365, equation 1).
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.width = _one_width(parts, "weighted_sum")
        self.weights = nn.Parameter(torch.zeros(len(parts)))
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        stacked = torch.stack(list(features.values()), dim=-1)
        mixed: Tensor = self.factor * (stacked @ self.weights.softmax(0))
        return mixed


class AttentionConfig(Config):
    """Each character attends to the parts."""

    kind: Literal["attention"] = "attention"

    def build(self, parts: Parts) -> "AttentionFusion":
        """The fusion of `parts`, with new weights; raises CompositionError if their widths differ."""
        return AttentionFusion(parts)


class AttentionFusion(Fusion):
    """Each character attends to the parts: its query comes from the mean of its features.

    At first all parts have equal weight and values pass unchanged, so the result is the mean.

    Raises:
        CompositionError: parts of different widths.

    Source: AdapterFusion (Pfeiffer et al. 2021, arXiv 2005.00247, section 3.2), including the identity at the start.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.width = _one_width(parts, "attention")
        self.query = nn.Linear(self.width, self.width, bias=False)
        self.key = nn.Linear(self.width, self.width, bias=False)
        self.value = nn.Linear(self.width, self.width, bias=False)
        nn.init.zeros_(self.query.weight)
        nn.init.eye_(self.key.weight)
        nn.init.eye_(self.value.weight)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        stacked = torch.stack(list(features.values()), dim=2)  # (B, L, parts, width)
        query = self.query(stacked.mean(dim=2))
        scores = torch.einsum("blw,blpw->blp", query, self.key(stacked)) / self.width**0.5
        mixed: Tensor = torch.einsum("blp,blpw->blw", scores.softmax(-1), self.value(stacked))
        return mixed


class AverageConfig(Config):
    """One component with the mean of the weights of all."""

    kind: Literal["average"] = "average"

    def build(self, parts: Parts) -> Component:
        """The component that replaces `parts`; raises CompositionError if their weights cannot be averaged."""
        return averaged(parts)


def averaged(parts: Parts) -> Component:
    """A component whose weights are the mean of those of `parts`, which are not changed.

    Raises:
        CompositionError: a part is a composition, the parts have different shapes, or did not start from the same
            weights, so that the mean of their weights has no meaning.

    Source: model soups (Wortsman et al. 2022, arXiv 2203.05482).
    """
    components = [part for part in parts.values() if isinstance(part, Component)]
    if len(components) < len(parts):
        others = [name for name, part in parts.items() if not isinstance(part, Component)]
        raise CompositionError(
            f"the fusion average needs components, whose weights it joins: {', '.join(map(repr, others))} is a "
            "composition. Use concatenation, weighted_sum or attention."
        )
    first = components[0].card
    for card in (part.card for part in components[1:]):
        if card.encoder != first.encoder or card.independent != first.independent:
            raise CompositionError(
                f"the fusion average needs parts of one shape: {first.name!r} has {_shape(first)}, "
                f"{card.name!r} has {_shape(card)}."
            )
        if card.origin is None or card.origin != first.origin:
            raise CompositionError(
                f"the fusion average needs parts that started from the same weights: {first.name!r} started from "
                f"{_short(first.origin)}, {card.name!r} from {_short(card.origin)}. Train them with the same `origin`."
            )
    states = [part.state_dict() for part in components]
    mean = copy.deepcopy(components[0])
    mean.card = first.model_copy(update={"name": "average"})
    mean.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return mean


_Config = ConcatenationConfig | WeightedSumConfig | AttentionConfig | AverageConfig


def _from_name(fusion: Any) -> Any:
    return {"kind": fusion} if isinstance(fusion, str) else fusion


def _to_name(config: _Config) -> Any:
    values = config.canonical()
    return values if len(values) > 1 else config.kind


FusionConfig = Annotated[_Config, Discriminator("kind"), BeforeValidator(_from_name), PlainSerializer(_to_name)]
"""The catalogue: in a configuration `fusion: concatenation`, or a mapping with `kind` for a fusion with settings."""


def _one_width(parts: Parts, fusion: str) -> int:
    widths = {name: part.width for name, part in parts.items()}
    if len(set(widths.values())) > 1:
        raise CompositionError(f"the fusion {fusion} needs parts of one width, got {widths}; use concatenation.")
    return next(iter(widths.values()))


def _shape(card: ComponentCard) -> dict[str, Any]:
    return {name: value for name, value in card.canonical().items() if name in ("encoder", "independent")}


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "weights that its card does not name"
