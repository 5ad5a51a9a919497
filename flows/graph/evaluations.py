"""Compositions that were evaluated, recognized by the kind in their folders' manifests."""

from dataclasses import dataclass
from pathlib import Path

from flows.graph.node import Node, artifact_kind
from flows.graph.plan import Plan
from flows.project import Project


@dataclass(frozen=True)
class Evaluation:
    """A composition and its results.

    Attributes:
        name: the composition's name.
        compose: the stage that makes it.
        evaluate: the stage that evaluates it.
        composition: folder of the composition.
        results: folder with metrics.json.
        data: folders that it was evaluated on.
        untrained: whether its components are untrained, as a control.
    """

    name: str
    compose: Node
    evaluate: Node
    composition: Path
    results: Path
    data: tuple[Path, ...]
    untrained: bool


def evaluations(plan: Plan, project: Project) -> list[Evaluation]:
    """Every composition that has results. The outputs' manifests tell which stages compose and evaluate."""
    makers = {out: node for node in plan.nodes.values() for out in node.outs}
    found = []
    for node in plan.nodes.values():
        results = [out for out in node.outs if artifact_kind(project.root / out) == "evaluation"]
        for dep in node.deps:
            if results and dep in makers and artifact_kind(project.root / dep) == "composition":
                compose = makers[dep]
                found.append(
                    Evaluation(
                        name=compose.item,
                        compose=compose,
                        evaluate=node,
                        composition=project.root / dep,
                        results=project.root / results[0],
                        data=tuple(project.root / other for other in node.deps if other != dep),
                        untrained=any(key.endswith(".untrained") and value for key, value in compose.params.items()),
                    )
                )
    return found
