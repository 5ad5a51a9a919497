"""The objectives by name. A new one is a file, a line in each table here, and a test."""

from typing import Annotated

from pydantic import Field

from cclm_core.noise.recipe import TrainingNoise
from cclm_core.objectives.base import Objective, Surroundings
from cclm_core.objectives.characters import Characters, CharactersConfig
from cclm_core.objectives.denoise import Denoise, DenoiseConfig
from cclm_core.objectives.entities import Entities, EntitiesConfig
from cclm_core.objectives.masked_characters import MaskedCharacters, MaskedCharactersConfig
from cclm_core.objectives.masked_words import MaskedWords, MaskedWordsConfig
from cclm_core.objectives.next_characters import NextCharacters, NextCharactersConfig

ObjectiveConfig = Annotated[
    MaskedCharactersConfig
    | EntitiesConfig
    | CharactersConfig
    | DenoiseConfig
    | NextCharactersConfig
    | MaskedWordsConfig,
    Field(discriminator="objective"),
]


def build(config: ObjectiveConfig, noise: TrainingNoise, surroundings: Surroundings) -> Objective:
    """The objective that `config` describes, with a new head."""
    match config:
        case MaskedCharactersConfig():
            return MaskedCharacters(config, noise, surroundings)
        case EntitiesConfig():
            return Entities(config, noise, surroundings)
        case CharactersConfig():
            return Characters(config, noise, surroundings)
        case DenoiseConfig():
            return Denoise(config, noise, surroundings)
        case NextCharactersConfig():
            return NextCharacters(config, noise, surroundings)
        case MaskedWordsConfig():
            return MaskedWords(config, noise, surroundings)
