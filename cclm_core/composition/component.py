"""A component: an encoder over the features of a frozen base."""

from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cclm_core.artifacts import read_json, write_json
from cclm_core.config import Config
from cclm_core.embedder import Embedder
from cclm_core.encoders.config import HourglassConfig
from cclm_core.encoders.hourglass import Hourglass
from cclm_core.random import seeded_initialisation

CARD, WEIGHTS = "component.json", "component.safetensors"


class ComponentCard(Config):
    """What a component is, and on which base it was trained."""

    format: Literal["cclm-component-1"] = "cclm-component-1"
    name: str = Field(description="its name in a composition")
    objective: str = Field(description="what it was trained on")
    base_width: int = Field(ge=1, description="features per character that it reads")
    base_digest: str = Field(description="digest of the base that it was trained on")
    preprocessor_digest: str = Field(description="digest of the vocabulary")
    encoder: HourglassConfig
    trained: bool = Field(default=True, description="false for a control with new weights")


class Component(nn.Module):
    """Turns base features (B, L, D) into its own (B, L, width)."""

    def __init__(self, card: ComponentCard) -> None:
        super().__init__()
        self.card = card
        self.body = Hourglass(card.base_width, card.encoder)
        self.width = self.body.width

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Encodes `features` (B, L, D) where `mask` (B, L) bool is true."""
        encoded: Tensor = self.body(features, mask)
        return encoded

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


class OverBase(nn.Module):
    """A component on its frozen base, as an encoder of ids; the base is no parameter of it and gets no gradient."""

    def __init__(self, base: Embedder, component: Component) -> None:
        super().__init__()
        self.component = component
        self._base = (base.freeze(),)  # a tuple hides it from the parameters and the checkpoints

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64 as (B, L, width)."""
        with torch.no_grad():
            features = self._base[0](ids)
        encoded: Tensor = self.component(features, ids != 0)
        return encoded
