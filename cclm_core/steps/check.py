"""Checking the whole of `params.yaml`, before anything runs."""

from pathlib import Path

from cclm_core.composition.config import CompositionConfig
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.ingest.config import IngestConfig
from cclm_core.noise.recipe import NoiseConfig
from cclm_core.objectives.catalogue import ObjectiveConfig
from cclm_core.objectives.masked_words import MaskedWordsConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ConfigError
from cclm_core.steps import parameters
from cclm_core.text.vocabulary import VocabularyConfig
from cclm_core.training.config import BaseConfig, ComponentConfig


def check(params: Path) -> None:
    """Checks every section that core knows, before anything runs.

    Raises:
        ConfigError: what `parameters.section` and `parameters.seed` raise, for the first section that is wrong; an
            objective asks for words, and the vocabulary is to have none.
    """

    parameters.seed(params)
    sections: dict[str, type[Config]] = {
        "ingest": IngestConfig,
        "vocabulary": VocabularyConfig,
        "noise": NoiseConfig,
        "base": BaseConfig,
        "evaluation": EvaluationConfig,
    }
    for key, config in sections.items():
        parameters.section(params, key, config)
    named: dict[str, type[Config]] = {"components": ComponentConfig, "compositions": CompositionConfig}
    values = parameters.load(params)
    for key, config in named.items():
        for name in values.get(key) or {}:
            parameters.section(params, f"{key}.{name}", config)
    _check_words(params, list(values.get("components") or {}))


def _check_words(params: Path, components: list[str]) -> None:
    if parameters.section(params, "vocabulary", VocabularyConfig).words is not None:
        return
    tasks: dict[str, ObjectiveConfig] = {
        f"base.objectives.{number}": part.task
        for number, part in enumerate(parameters.section(params, "base", BaseConfig).objectives)
    }
    for name in components:
        tasks[f"components.{name}"] = parameters.section(params, f"components.{name}", ComponentConfig).task
    for place, task in tasks.items():
        if isinstance(task, MaskedWordsConfig):
            raise ConfigError(
                f"{params}: {place} trains on masked_words, which needs a vocabulary with word targets. Set "
                "vocabulary.words, e.g. `words: {kind: words}`."
            )
