"""Training a component over a base: its initial weights and its training module."""

from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard, IndependentConfig
from cclm_core.composition.component import Component, OverBase, features_of
from cclm_core.encoders.contexts import Contexts
from cclm_core.encoders.digest import weights_digest
from cclm_core.encoders.embedder import Base
from cclm_core.encoders.pretrained.catalogue import PretrainedConfig, PretrainedEmbedding
from cclm_core.encoders.saved_weights import networks_of
from cclm_core.objectives.base import Objective
from cclm_core.objectives.contexts import ContextObjective
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.training.config import ComponentConfig
from cclm_core.training.contexts import ContextTraining
from cclm_core.training.features import FeatureCache, OverCachedBase
from cclm_core.training.initial_weights import InitializeConfig, Target, initialize
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
    def anticausal(self) -> bool:
        """Whether the features of a character depend only on it and the characters after it."""
        return self.component.anticausal

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
    objective = "none" if config.task is None else config.task.objective
    backward = getattr(config.task, "direction", None) == "backward"
    return ComponentCard.over(base, name, objective, config.encoder, config.independent, config.embedding, backward)


def opened(config: ComponentConfig) -> tuple[ComponentConfig, PretrainedEmbedding | None]:
    """Reads the source of a component's pretrained embedding, if it has one.

    Returns:
        The configuration with the digest of the source instead of its path, and the embedding.

    Raises:
        CclmError: the source cannot be read; see `PretrainedConfig.open`.
    """
    if not isinstance(config.embedding, PretrainedConfig) or config.embedding.source is None:
        return config, None
    own, embedding = config.embedding.open()
    return config.model_copy(update={"embedding": own}), embedding


def initialize_component(component: Component, base: Base, config: InitializeConfig) -> dict[str, int]:
    """Copies pretrained weights into a new component, and gives it their origin.

    Args:
        component: changed in place.
        base: its base, which has the vocabulary.
        config: the source, and what to copy.

    Returns:
        Metrics; see `initialize`.

    Raises:
        CclmError: see `initialize`.
    """
    card = component.card
    embedding = card.independent.embedding if isinstance(card.independent, IndependentConfig) else None
    settings = networks_of("body", card.encoder, embedding, card.reads_backward)
    metrics = initialize(Target(component, card.described, settings, base.preprocessor), config)
    component.card = card.model_copy(update={"origin": weights_digest(component)})
    return metrics


def new_component(
    base: Base,
    name: str,
    config: ComponentConfig,
    seed: int,
    inputs: TrainingInputs,
    embedding: PretrainedEmbedding | None = None,
) -> tuple[Component, Objective | None]:
    """A component and its objective with random initial weights, drawn from `seed` and the component's origin.

    `initialize_component` replaces them by pretrained ones.

    Args:
        base: the base to train over.
        name: the name of the component.
        config: its configuration, as `opened` returns it.
        seed: the seed of the run.
        inputs: corpus, noise and word targets.
        embedding: the pretrained embedding that `opened` read, if any.

    Returns:
        The component, and its objective; None if nothing is trained.

    Raises:
        CompositionError: a causal component over a bidirectional base.
        ConfigError: the corpus or vocabulary lacks something that the objective needs.
    """
    card = component_card(base, name, config)
    with seeded_initialization(derive_seed(seed, "pretrain", config.origin or name)):
        component = Component(card, embedding=embedding)
        component.card = card.model_copy(update={"origin": weights_digest(component)})
        objective = None if config.task is None else config.task.build(inputs.context(component.width))
        return component, objective


def component_module(
    base: Base,
    component: Component,
    objective: Objective,
    train_base: bool = False,
    cache: FeatureCache | None = None,
) -> TrainingModule | ContextTraining:
    """The module to train: component and head over a frozen base; with `train_base` the base is trained too.

    Features of a frozen base come from `cache`, if there is one.

    Raises:
        ConfigError: the objective needs a causal component and this one is not.
    """
    if cache is not None:
        return TrainingModule(OverCachedBase(cache, component), [(objective, 1.0)])
    encoder = (WithBase if train_base else OverBase)(base, component)
    if isinstance(objective, ContextObjective):
        return ContextTraining(encoder, objective)
    return TrainingModule(encoder, [(objective, 1.0)])
