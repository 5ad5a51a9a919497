"""Models with results: compositions, tasks and ensembles of tasks, identified by the `kind` in their manifests."""

from dataclasses import dataclass
from pathlib import Path

from cclm_core.runtime.errors import ConfigError
from flows.graph.node import Node, artifact_kind
from flows.graph.plan import Plan
from flows.project import Project

COMPOSITION, TASK = "composition", "task"
MODEL_KINDS = (COMPOSITION, TASK)
"""Kinds of models that are measured, registered and gated."""


@dataclass(frozen=True)
class Evaluation:
    """A composition or the model of a task, with its results.

    Attributes:
        name: name of the composition or the task.
        made_by: the stage that makes the model.
        measured_by: the stage that measures it.
        model: folder of the model.
        results: folder with metrics.json.
        data: folders with the evaluation data.
        untrained: whether it is a control with untrained components.
        kind: `composition` or `task`; an ensemble of tasks is a task.
    """

    name: str
    made_by: Node
    measured_by: Node
    model: Path
    results: Path
    data: tuple[Path, ...]
    untrained: bool
    kind: str = COMPOSITION

    @property
    def is_task(self) -> bool:
        """Whether it is the model of a task."""
        return self.kind == TASK


def evaluations(plan: Plan, project: Project) -> list[Evaluation]:
    """All compositions and tasks with results, in plan order.

    Raises:
        ConfigError: a composition and a task have the same name.
    """
    producers = {out: node for node in plan.nodes.values() for out in node.outs}
    evaluated: list[Evaluation] = []
    for node in plan.nodes.values():
        results = [out for out in node.outs if artifact_kind(project.root / out) == "evaluation"]
        for dep in node.deps:
            # The parts of an ensemble are models, too, but its results are those of the ensemble.
            is_model = bool(results) and dep in producers and dep not in node.parts
            kind = artifact_kind(project.root / dep) if is_model else None
            if kind not in MODEL_KINDS:
                continue
            maker = producers[dep]
            if clash := next((other for other in evaluated if other.name == maker.item), None):
                _refuse_clash(clash.made_by, maker)
            evaluation = Evaluation(
                name=maker.item,
                made_by=maker,
                measured_by=node,
                model=project.root / dep,
                results=project.root / results[0],
                data=tuple(project.root / path for path in node.deps if path != dep),
                untrained=any(key.endswith(".untrained") and value for key, value in maker.params.items()),
                kind=kind,
            )
            evaluated.append(evaluation)
    return evaluated


def _refuse_clash(first: Node, second: Node) -> None:
    if first.name != second.name:
        raise ConfigError(
            f"{first.name} and {second.name} make models with the same name, which would be the same registered model, "
            f"cclm-{first.item}. Rename one in params.yaml."
        )
