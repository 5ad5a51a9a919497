"""Training a component over a base: its initial weights and its training module."""

from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component, OverBase, features_of
from cclm_core.encoders.contexts import Contexts
from cclm_core.encoders.embedder import Base, weights_digest
from cclm_core.objectives.base import Objective
from cclm_core.objectives.contexts import ContextObjective
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.training.config import ComponentConfig
from cclm_core.training.contexts import ContextTraining
from cclm_core.training.module import TrainingModule
from cclm_core.training.run import TrainingInputs


class WithBase(nn.Module):
    """A component and its base as one encoder, trained together.

    Raises:
        CompositionError: a causal component over a bidirectional base.
    """

    def __init__(self, base: Base, component: Component) -> None:
        super().__init__()
        component.card.check_causal(base)
        self.base, self.component = base, component

    @property
    def causal(self) -> bool:
        """Whether the features of a character depend only on it and the characters before it."""
        return self.component.causal

    @property
    def described(self) -> str:
        """A short description for error messages."""
        return f"{self.base.described} with the component {self.component.card.name!r}"

    def forward(self, ids: Tensor, contexts: Contexts | None = None) -> Tensor:
        """Features (B, L, width of the component) of `ids` (B, L) int64, with their contexts."""
        return features_of(self.base, {"": self.component}, ids, contexts)[""]

    def encode_contexts(self, ids: Tensor) -> Tensor:
        """See `Component.encode_contexts`, with gradients for the base."""
        return self.component.encode_contexts(ids, self.base, gradients=True)


def component_card(base: Base, name: str, config: ComponentConfig) -> ComponentCard:
    """The card of a component to train over `base`.

    Raises:
        CompositionError: a causal component over a bidirectional base.
    """
    return ComponentCard.over(base, name, config.task.objective, config.encoder, config.independent)


def new_component(
    base: Base, name: str, config: ComponentConfig, seed: int, inputs: TrainingInputs
) -> tuple[Component, Objective]:
    """A component and its objective with their initial weights, drawn from `seed` and the component's origin.

    Raises:
        CompositionError: a causal component over a bidirectional base.
        ConfigError: the corpus or vocabulary lacks something that the objective needs.
    """
    card = component_card(base, name, config)
    with seeded_initialization(derive_seed(seed, "pretrain", config.origin or name)):
        component = Component(card)
        component.card = card.model_copy(update={"origin": weights_digest(component)})
        return component, config.task.build(inputs.context(component.width))


def component_module(
    base: Base, component: Component, objective: Objective, train_base: bool = False
) -> TrainingModule | ContextTraining:
    """The module to train: component and head over a frozen base; with `train_base` the base is trained too.

    Raises:
        ConfigError: the objective needs a causal component and this one is not.
    """
    encoder = (WithBase if train_base else OverBase)(base, component)
    if isinstance(objective, ContextObjective):
        return ContextTraining(encoder, objective)
    return TrainingModule(encoder, [(objective, 1.0)])
