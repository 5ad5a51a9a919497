"""What retraining one component consists of; it needs no Prefect to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cclm_core.runtime.artifacts import folder_digest
from flows.graph.node import Node, artifact_kind
from flows.graph.params_file import write_settings
from flows.graph.plan import Plan
from flows.graph.selection import component_stage, refuse_stale_before, with_dependents
from flows.project import Project
from flows.run.preparation import checked_plan


@dataclass(frozen=True)
class Retraining:
    """The retraining of one component.

    Attributes:
        stage: the stage that trains it.
        nodes: that stage, and those of the compositions that contain the component.
        stale: which of them are stale.
        before: the digest of what the component is now; None when it was never trained.
    """

    component: str
    plan: Plan
    stage: str
    nodes: dict[str, Node]
    stale: tuple[str, ...]
    before: str | None

    def summary(self, project: Project, outcome: str) -> dict[str, Any]:
        """The result: the component's digest before and after, and a message."""
        after = component_digest(project, self.nodes[self.stage])
        if outcome == "unchanged":
            words = f"{self.component} is up to date with its settings, so it was not trained again"
        elif after == self.before:
            words = f"{self.component} was {_word(outcome)} to the same bytes, so nothing after it changed"
        else:
            words = f"{self.component} was {_word(outcome)}"
        return {"component": self.component, "parent": self.before, "digest": after, "message": words}


def plan_retraining(project: Project, component: str, settings: Mapping[str, Any]) -> Retraining:
    """Writes the settings into params.yaml and plans; nothing is written when it cannot be done.

    Raises:
        ConfigError: there is no such component, a setting is wrong, or a stage that is needed is stale.
    """
    plan = checked_plan(project)
    stage = component_stage(plan, component)
    refuse_stale_before(plan, with_dependents(plan, stage))
    if settings and write_settings(project, component, settings):
        plan = checked_plan(project)
    nodes = with_dependents(plan, stage)
    stale = tuple(name for name in plan.stale() if name in nodes)
    return Retraining(component, plan, stage, nodes, stale, component_digest(project, nodes[stage]))


def component_digest(project: Project, node: Node) -> str | None:
    """The digest of the component that a stage published; None if it has not published one."""
    for out in node.outs:
        if artifact_kind(project.root / out) == "component":
            return folder_digest(project.root / out)
    return None


def _word(outcome: str) -> str:
    return {"ran": "retrained", "restored": "restored from DVC's run cache"}.get(outcome, outcome)
