"""Pretraining by masked characters."""

from typing import Unpack

from cclm_core.encoders.embedder import Base
from cclm_core.objectives.masked_characters import MaskedCharactersConfig
from cclm_core.pretraining.pretrainer import Pretrainer, Settings


class CharacterMaskPretrainer(Pretrainer):
    """Hides characters and spans of text, and trains a component to say which stood there.

    Args:
        embedder: the common base of all components.
        task: how much is hidden, and how; see `MaskedCharactersConfig`.
        settings: see `Pretrainer`.
    """

    def __init__(
        self, embedder: Base, task: MaskedCharactersConfig | None = None, **settings: Unpack[Settings]
    ) -> None:
        super().__init__(embedder, task or MaskedCharactersConfig(), **settings)
