"""Pretraining by the next characters."""

from typing import Unpack

from cclm_core.encoders.embedder import Base
from cclm_core.objectives.next_characters import NextCharactersConfig
from cclm_core.pretraining.pretrainer import Pretrainer, Settings
from cclm_core.training.config import ComponentConfig


class CausalLanguagePretrainer(Pretrainer):
    """Trains a component to say, at every character, which ones come next: a language model that writes text.

    The component sees nothing of what comes later, so the embedder must not either: give it a causal encoder, or the
    component an embedding of its own by `independent=True`.

    Args:
        embedder: the common base of all components.
        task: how many characters are predicted; see `NextCharactersConfig`.
        settings: see `Pretrainer`. The encoder is causal if none is given.

    Raises:
        CompositionError: the embedder is not causal, and the component not independent.
    """

    def __init__(self, embedder: Base, task: NextCharactersConfig | None = None, **settings: Unpack[Settings]) -> None:
        task = task or NextCharactersConfig()
        settings.setdefault("encoder", ComponentConfig(task=task).encoder.model_copy(update={"causal": True}))
        super().__init__(embedder, task, **settings)
