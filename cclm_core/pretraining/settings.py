"""The settings of a pretrainer: configurations, or mappings of their keys."""

from collections.abc import Mapping
from typing import Any

from cclm_core.noise.recipe import NoiseRecipe, TrainingNoise
from cclm_core.objectives.base import NO_NOISE
from cclm_core.objectives.catalogue import DenoiseConfig, MaskedWordsConfig, ObjectiveConfig
from cclm_core.objectives.contexts import READS_CONTEXTS
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig
from cclm_core.training.config import ComponentConfig


def parsed_task(
    task: ObjectiveConfig | Mapping[str, Any] | None, expected: type[Any] | None, owner: str
) -> ObjectiveConfig:
    """The configuration of the objective.

    Args:
        task: the configuration; None for the default of `expected`.
        expected: the configuration class of the pretrainer; None for any.
        owner: the class of the pretrainer, for messages.

    Raises:
        ConfigError: an unknown or invalid key, another objective, or nothing is given and there is no default.
    """
    if task is None:
        if expected is None:
            raise ConfigError(
                "`task` is missing. Pass the configuration of an objective, for example CharactersConfig()."
            )
        default: ObjectiveConfig = expected()
        return default
    if isinstance(task, Mapping):
        default_name = {} if expected is None else {"objective": expected().objective}
        settings = {"task": {**default_name, **task}}
        if settings["task"].get("objective") in {member().objective for member in READS_CONTEXTS}:
            raise ConfigError(
                f"the objective {settings['task']['objective']} reads texts with authors, and `fit` takes texts alone. "
                "Train the component with `cclm run`: docs/contexts.md."
            )
        parsed = ComponentConfig.parse(settings, owner).task
        assert not isinstance(parsed, READS_CONTEXTS)
        task = parsed
    if expected is not None and not isinstance(task, expected):
        raise ConfigError(
            f"`task` of {owner} must be a {expected.__name__}, got {type(task).__name__}. Use `Pretrainer` for other "
            "objectives."
        )
    return task


def parsed_words(
    words: TargetsConfig | Mapping[str, Any] | None, task: ObjectiveConfig, preprocessor: Preprocessor
) -> TargetsConfig | None:
    """Which words to select, for objectives that read words: by default those of the preprocessor."""
    if not isinstance(task, MaskedWordsConfig | DenoiseConfig):
        return None
    if words is None:
        return preprocessor.config.words or TargetsConfig()
    return TargetsConfig.parse(words, "words") if isinstance(words, Mapping) else words


def parsed_noise(noise: NoiseRecipe | Mapping[str, Any] | None) -> TrainingNoise:
    """The training noise; none by default."""
    if noise is None:
        return NO_NOISE
    if isinstance(noise, Mapping):
        return TrainingNoise.parse({"rate": NoiseRecipe().rate, **noise}, "noise")
    return noise if isinstance(noise, TrainingNoise) else TrainingNoise(**noise.model_dump())
