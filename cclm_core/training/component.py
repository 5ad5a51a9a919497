"""Training a component over a base: its first weights, and the module that is trained."""

from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component, OverBase, features_of
from cclm_core.encoders.embedder import Base, weights_digest
from cclm_core.objectives.base import Objective
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.training.config import ComponentConfig
from cclm_core.training.module import TrainingModule
from cclm_core.training.run import TrainingInputs


class WithBase(nn.Module):
    """A component and its base as one encoder of ids (B, L), trained together.

    Raises:
        CompositionError: the component is causal and the base is not.
    """

    def __init__(self, base: Base, component: Component) -> None:
        super().__init__()
        component.card.check_causal(base)
        self.base, self.component = base, component

    @property
    def causal(self) -> bool:
        """Whether the features of a character depend on it and earlier ones alone."""
        return self.component.causal

    @property
    def described(self) -> str:
        """A short description for messages."""
        return f"{self.base.described} with the component {self.component.card.name!r}"

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64 as (B, L, width of the component)."""
        return features_of(self.base, {"": self.component}, ids)[""]


def component_card(base: Base, name: str, config: ComponentConfig) -> ComponentCard:
    """The card of a component to train over `base`; raises CompositionError if it cannot be."""
    return ComponentCard.over(base, name, config.task.objective, config.encoder, config.independent)


def new_component(
    base: Base, name: str, config: ComponentConfig, seed: int, inputs: TrainingInputs
) -> tuple[Component, Objective]:
    """A component and its objective with their first weights, which depend on `seed` and the origin.

    Raises:
        CompositionError: the component is causal and the base is not.
        ConfigError: the corpus or vocabulary lacks what the objective needs.
    """
    card = component_card(base, name, config)
    with seeded_initialisation(derive_seed(seed, "pretrain", config.origin or name)):
        component = Component(card)
        component.card = card.model_copy(update={"origin": weights_digest(component)})
        return component, config.task.build(inputs.context(component.width))


def component_module(
    base: Base, component: Component, objective: Objective, train_base: bool = False
) -> TrainingModule:
    """The module to train: the component and the head over a frozen base, or together with it if `train_base`.

    Raises:
        ConfigError: the objective needs a causal encoder, and the component is not causal.
    """
    encoder = (WithBase if train_base else OverBase)(base, component)
    return TrainingModule(encoder, [(objective, 1.0)])
