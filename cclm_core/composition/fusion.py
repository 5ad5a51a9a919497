"""Fusions: how the features of several parts become one.

`concatenation` keeps them all; `weighted_sum` and `attention` learn what to take from whom, once a head is trained on
them, and start as the plain mean; `average` joins the weights of parts with one origin, not their features.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard, FusionName
from cclm_core.composition.component import Component
from cclm_core.composition.part import Part
from cclm_core.runtime.errors import CompositionError

__all__ = ["AttentionFusion", "Concatenation", "Fusion", "FusionName", "WeightedSum", "averaged", "build_fusion"]


class Fusion(nn.Module, ABC):
    """Joins features (B, L, width of each part) into (B, L, `width`).

    Args:
        parts: the components and compositions, in order; they are not changed.
    """

    width: int

    @abstractmethod
    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Joins the features of the parts, by name, in order."""


class Concatenation(Fusion):
    """All features side by side."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self.width = sum(part.width for part in parts)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return torch.cat(list(features.values()), dim=-1)


class WeightedSum(Fusion):
    """A learnt weight for each part, the same for all characters, and one factor for all; at first the mean.

    Raises:
        CompositionError: parts of different widths.

    Source: the scalar mix of ELMo (Peters et al. 2018, arXiv 1802.05365, equation 1).
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        self.width = _one_width(parts, "weighted_sum")
        self.weights = nn.Parameter(torch.zeros(len(parts)))
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        stacked = torch.stack(list(features.values()), dim=-1)
        mixed: Tensor = self.factor * (stacked @ self.weights.softmax(0))
        return mixed


class AttentionFusion(Fusion):
    """Each character attends to the parts: it asks with the mean of its features, and takes values that start as is.

    At first every part counts the same, and values pass unchanged: the mean; of a single part, that part itself.

    Raises:
        CompositionError: parts of different widths.

    Source: AdapterFusion (Pfeiffer et al. 2021, arXiv 2005.00247, section 3.2), the identity at the start included.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
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
        asked = self.query(stacked.mean(dim=2))
        scores = torch.einsum("blw,blpw->blp", asked, self.key(stacked)) / self.width**0.5
        mixed: Tensor = torch.einsum("blp,blpw->blw", scores.softmax(-1), self.value(stacked))
        return mixed


def averaged(parts: Sequence[Part]) -> Component:
    """A component whose weights are the mean of those of `parts`, which are not changed.

    Raises:
        CompositionError: a part is a composition, the parts have different shapes, or did not start from the same
            weights: then the mean of their weights means nothing.

    Source: model soups (Wortsman et al. 2022, arXiv 2203.05482).
    """
    components = [part for part in parts if isinstance(part, Component)]
    if len(components) < len(parts):
        others = [part.name for part in parts if not isinstance(part, Component)]
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


def build_fusion(name: FusionName, parts: Sequence[Part]) -> Fusion | None:
    """The fusion with that name, new; None for `average`, which joins weights instead of features."""
    match name:
        case "concatenation":
            return Concatenation(parts)
        case "weighted_sum":
            return WeightedSum(parts)
        case "attention":
            return AttentionFusion(parts)
        case "average":
            return None


def _one_width(parts: Sequence[Part], fusion: FusionName) -> int:
    widths = {part.name: part.width for part in parts}
    if len(set(widths.values())) > 1:
        raise CompositionError(f"the fusion {fusion} needs parts of one width, got {widths}; use concatenation.")
    return next(iter(widths.values()))


def _shape(card: ComponentCard) -> dict[str, Any]:
    return {name: value for name, value in card.canonical().items() if name in ("encoder", "independent")}


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "weights that its card does not name"
