"""Loads a published component together with its base and the head of its objective."""

from pathlib import Path
from typing import Any, NamedTuple

from cclm_core.composition.component import OverBase
from cclm_core.composition.store import load_base, load_component
from cclm_core.noise.misspellings import Spellings
from cclm_core.objectives.base import Objective, ObjectiveContext
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.own_code import carried
from cclm_core.text.word_targets import FILE, WordTargets
from cclm_core.training.config import ComponentConfig
from cclm_core.training.run import read_card


class TrainedComponent(NamedTuple):
    """A trained component that is ready for use.

    Attributes:
        encoder: the component with its base.
        objective: its objective, with the trained head.
        window: the window of the training, in ids.
        words: the word targets saved with the objective, or None.
    """

    encoder: OverBase
    objective: Objective
    window: int
    words: WordTargets | None


def load_trained(component: Path, base: Path, objective: str) -> TrainedComponent:
    """Loads a published component and its base.

    Args:
        component: the folder of the component.
        base: the folder of the base: an embedder or a composition.
        objective: the name of the objective that the component must have been trained on.

    Raises:
        ArtifactError: a folder is missing or damaged, card.json has no configuration of the training, or the component
            was trained on another objective.
        CompositionError: the component was trained on another base or vocabulary.
    """
    verify(component, "component")
    verify(base, "embedder", "composition")
    part, loaded_base = load_component(component), load_base(base)
    if part.card.objective != objective:
        raise ArtifactError(
            f"{component} was trained on {part.card.objective}, but a component trained on {objective} is needed. "
            f"Train one with `task: {{objective: {objective}}}`."
        )
    part.card.check(loaded_base)
    card = read_card(component / "card.json")
    with carried(component):
        config = ComponentConfig.parse(card["configuration"], f"{component}/card.json: configuration")
    words = WordTargets.load(component / FILE) if (component / FILE).is_file() else None
    misspellings = _misspellings(card, component / "card.json")
    context = ObjectiveContext(
        width=part.width, preprocessor=loaded_base.preprocessor, misspellings=misspellings, words=words
    )
    trained_objective = config.objective.build(context)
    trained_objective.load_head(component)
    return TrainedComponent(OverBase(loaded_base, part).eval(), trained_objective.eval(), config.training.window, words)


def _misspellings(card: dict[str, Any], path: Path) -> Spellings | None:
    """The misspellings that the training used, from its card."""
    noise = card.get("noise", {})
    listed = noise.get("misspellings") if isinstance(noise, dict) else noise
    if listed is not None and not (
        isinstance(listed, dict) and all(isinstance(some, dict) for some in listed.values())
    ):
        raise ArtifactError(
            f"{path}: noise.misspellings must map words to misspellings with counts. Train the component again."
        )
    return listed
