"""Components that are trained jointly with the base: written next to it, and published by the stage `pretrain`.

```
models/base/
    embedder.json ...                  the base
    joint/NAME/joint.json              the objective and the encoder of base.objectives NAME
    joint/NAME/body.safetensors        the weights of its encoder
    joint/NAME/head.safetensors ...    its head; see `Objective.save`
```
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cclm_core.encoders.base import Encoder
from cclm_core.encoders.embedder import Embedder
from cclm_core.encoders.store import save_embedder
from cclm_core.encoders.weights import load_weights, save_weights
from cclm_core.objectives.base import Objective, ObjectiveContext
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.blocks import code_in
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.own_code import write_code
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.training.branches import Branch
from cclm_core.training.config import ComponentConfig, WeightedObjective
from cclm_core.training.run import TrainingInputs

JOINT = "joint"
"""The folder of jointly trained components, in the folder of a base."""

_CARD, _BODY = "joint.json", "body.safetensors"
_FORMAT = "cclm-joint-1"


def build_branches(
    objectives: Sequence[WeightedObjective], embedder: Embedder, inputs: TrainingInputs, seed: int
) -> list[Branch]:
    """The branches of a base with their initial weights.

    Weights of named objectives are drawn from the name, those of the others in their order: call this in a
    `seeded_initialization`.

    Raises:
        ConfigError: the corpus or vocabulary lacks something that an objective needs.
    """
    branches = []
    for part in objectives:
        if part.name is None:
            branches.append(_branch(part, None, part.task.build(inputs.context(embedder.width))))
            continue
        with seeded_initialization(derive_seed(seed, "objective", part.name)):
            body = None if part.encoder is None else part.encoder.build(embedder.width)
            context: ObjectiveContext = inputs.context(embedder.width if body is None else body.width)
            branches.append(_branch(part, body, part.task.build(context)))
    return branches


def save_base(
    embedder: Embedder, folder: Path, objectives: Sequence[WeightedObjective], branches: Sequence[Branch]
) -> None:
    """Writes an embedder and the components that were trained jointly with it into an existing folder.

    Args:
        embedder: the embedder.
        folder: the folder, which is being published.
        objectives: the objectives of the base.
        branches: their branches, in the same order.
    """
    save_embedder(embedder, folder)
    for part, branch in zip(objectives, branches, strict=True):
        if part.encoder is None or branch.body is None:
            continue
        target = folder / JOINT / str(part.name)
        target.mkdir(parents=True)
        card = {"format": _FORMAT, "task": part.task.canonical(), "encoder": part.encoder.canonical()}
        write_json(target / _CARD, card)
        save_weights(branch.body.state_dict(), target / _BODY)
        branch.objective.save(target)
        write_code(target, code_in([part.task, part.encoder]))


def adopt_joint(base: Path, name: str, config: ComponentConfig, body: Encoder, objective: Objective) -> None:
    """Loads the weights that a base trained jointly for a component into its encoder and its head.

    Args:
        base: folder of the base.
        name: name of the component, and of the objective of the base.
        config: the configuration of the component.
        body: its encoder; changed in place.
        objective: its objective; its head is changed in place.

    Raises:
        ArtifactError: the base has no such objective, or a file is damaged.
        ConfigError: the objective or the encoder of the component and of the base differ.
    """
    folder = base / JOINT / name
    if not (folder / _CARD).is_file():
        trained = sorted(path.name for path in (base / JOINT).glob("*")) if (base / JOINT).is_dir() else []
        raise ArtifactError(
            f"{name} was not trained jointly with {base}, which has {', '.join(trained) or 'no such components'}. Add "
            f"`name: {name}` and an `encoder` to one of base.objectives and train the base, or remove `joint`."
        )
    card = read_json(folder / _CARD)
    check_equal(name, card, {"task": config.objective.canonical(), "encoder": config.encoder.canonical()}, str(folder))
    load_weights(body, folder / _BODY)
    objective.load_head(folder)


def check_equal(name: str, base: dict[str, Any], component: dict[str, Any], source: str = "base.objectives") -> None:
    """Refuses a component whose objective or encoder differs from that of the base.

    Args:
        name: the component.
        base: `task` and `encoder` of the base.
        component: `task` and `encoder` of the component.
        source: where those of the base are from, in the message.

    Raises:
        ConfigError: they differ; the message names the first different key and both values.
    """
    for section in ("task", "encoder"):
        ours, theirs = component[section], base.get(section)
        theirs = theirs if isinstance(theirs, dict) else {}
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            if ours.get(key) != theirs.get(key):
                raise ConfigError(
                    f"components.{name} was trained jointly as another model: {section}.{key} is {ours.get(key)!r} in "
                    f"components.{name} and {theirs.get(key)!r} in {source}. Use the same value in both."
                )


def _branch(part: WeightedObjective, body: Encoder | None, objective: Objective) -> Branch:
    return Branch(
        objective=objective,
        loss_weight=part.loss_weight,
        gradient_factor=part.gradient_factor,
        body=body,
        name=part.name,
    )
