"""A published component together with its base and the head of its objective, as applications need them."""

from pathlib import Path
from typing import NamedTuple

from cclm_core.composition.component import OverBase
from cclm_core.composition.store import load_base, load_component
from cclm_core.objectives.base import Objective, ObjectiveContext
from cclm_core.runtime.artifacts import read_json, verify
from cclm_core.runtime.errors import ArtifactError
from cclm_core.text.word_targets import FILE, WordTargets
from cclm_core.training.config import ComponentConfig


class Trained(NamedTuple):
    """What a training published.

    Attributes:
        encoder: the component with its base.
        objective: what it was trained on, with the trained head.
        window: ids that were read together in training.
        words: the word targets that the objective saved; None if it saved none.
    """

    encoder: OverBase
    objective: Objective
    window: int
    words: WordTargets | None


def load_trained(component: Path, base: Path, objective: str) -> Trained:
    """Reads a published component that was trained on `objective`, and its base, an embedder or a composition.

    Raises:
        ArtifactError: a folder is missing or damaged, does not tell how the component was trained, or holds a component
            that was trained on another objective.
        CompositionError: the component was trained on another base or vocabulary.
    """
    verify(component, "component")
    verify(base, "embedder", "composition")
    part, below = load_component(component), load_base(base)
    if part.card.objective != objective:
        raise ArtifactError(
            f"{component} must hold a component trained on {objective}, but it was trained on {part.card.objective}. "
            f"Train one: `task: {{objective: {objective}}}`."
        )
    part.card.check(below)
    card = read_json(component / "card.json") if (component / "card.json").is_file() else {}
    if "configuration" not in card:
        raise ArtifactError(
            f"{component}/card.json must tell the configuration of the training. Train the component again, or fork it "
            "again from the one that was trained."
        )
    config = ComponentConfig.parse(card["configuration"], f"{component}/card.json: configuration")
    words = WordTargets.load(component / FILE) if (component / FILE).is_file() else None
    misspellings = card.get("noise", {}).get("misspellings")
    context = ObjectiveContext(
        width=part.width, preprocessor=below.preprocessor, misspellings=misspellings, words=words
    )
    trained = config.task.build(context)
    trained.load_head(component)
    return Trained(OverBase(below, part).eval(), trained.eval(), config.training.window, words)
