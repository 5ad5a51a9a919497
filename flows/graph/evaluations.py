"""Evaluated compositions, identified by the `kind` in the manifests of the outputs."""

from dataclasses import dataclass
from pathlib import Path

from flows.graph.node import Node, artifact_kind
from flows.graph.plan import Plan
from flows.project import Project


@dataclass(frozen=True)
class Evaluation:
    """A composition with its evaluation results.

    Attributes:
        name: name of the composition.
        compose: the stage that composes it.
        evaluate: the stage that evaluates it.
        composition: folder of the composition.
        results: folder with metrics.json.
        data: folders with the evaluation data.
        untrained: whether it is a control with untrained components.
    """

    name: str
    compose: Node
    evaluate: Node
    composition: Path
    results: Path
    data: tuple[Path, ...]
    untrained: bool


def evaluations(plan: Plan, project: Project) -> list[Evaluation]:
    """All compositions with results, in plan order."""
    producers = {out: node for node in plan.nodes.values() for out in node.outs}
    evaluated = []
    for node in plan.nodes.values():
        results = [out for out in node.outs if artifact_kind(project.root / out) == "evaluation"]
        for dep in node.deps:
            if results and dep in producers and artifact_kind(project.root / dep) == "composition":
                compose = producers[dep]
                evaluated.append(
                    Evaluation(
                        name=compose.item,
                        compose=compose,
                        evaluate=node,
                        composition=project.root / dep,
                        results=project.root / results[0],
                        data=tuple(project.root / path for path in node.deps if path != dep),
                        untrained=any(key.endswith(".untrained") and value for key, value in compose.params.items()),
                    )
                )
    return evaluated
