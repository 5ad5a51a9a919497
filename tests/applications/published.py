"""Publishes components as a training does, for the tests of the applications."""

from pathlib import Path

from cclm_core.composition import Component, save
from cclm_core.objectives.denoise import Denoise
from cclm_core.objectives.next_characters import NextCharacters
from cclm_core.runtime.artifacts import publishing
from cclm_core.training.config import ComponentConfig, TrainingConfig
from cclm_core.training.run import write_results


def publish_component(
    folder: Path, component: Component, objective: Denoise | NextCharacters, window: int = 256
) -> Path:
    """Publishes a component with its head and the configuration of its training."""
    config = ComponentConfig(
        task=objective.config, encoder=component.card.encoder, training=TrainingConfig(window=window)
    )
    with publishing(folder, "component") as writing:
        save(component, writing)
        objective.save(writing)
        write_results(writing, [{"step": 1}], {"configuration": config.canonical()}, {})
    return folder
