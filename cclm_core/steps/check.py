"""Checking the whole of `params.yaml`, before anything runs."""

from pathlib import Path

from cclm_core.composition.config import CompositionConfig
from cclm_core.config import Config
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.noise.recipe import NoiseConfig
from cclm_core.steps import parameters
from cclm_core.text.sources.config import IngestConfig
from cclm_core.text.vocabulary import VocabularyConfig
from cclm_core.training.config import BaseConfig, ComponentConfig


def check(params: Path) -> None:
    """Checks every section that core knows, before anything runs.

    Raises:
        ConfigError: what `parameters.section` and `parameters.seed` raise, for the first section that is wrong.
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
