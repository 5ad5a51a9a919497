"""Plans the retraining of one component, without Prefect."""

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
        component: name in params.yaml.
        plan: the plan of the whole pipeline.
        stage: the stage that trains the component.
        nodes: that stage, and the stages of the compositions that contain the component.
        stale: names of the stale stages among `nodes`.
        before: the digest of the current component; None if it was never trained.
    """

    component: str
    plan: Plan
    stage: str
    nodes: dict[str, Node]
    stale: tuple[str, ...]
    before: str | None

    def summary(self, project: Project, outcome: str) -> dict[str, Any]:
        """The result as JSON-compatible values: the component's digests before and after, and a message.

        Args:
            outcome: of the training stage, see `StageResult.outcome`.
        """
        after = component_digest(project, self.nodes[self.stage])
        if outcome == "unchanged":
            message = f"{self.component} is up to date with its settings and was not retrained"
        elif after == self.before:
            message = f"{self.component} was {_verb(outcome)}, with identical results, so nothing else changed"
        else:
            message = f"{self.component} was {_verb(outcome)}"
        return {"component": self.component, "parent": self.before, "digest": after, "message": message}


def plan_retraining(project: Project, component: str, settings: Mapping[str, Any]) -> Retraining:
    """Writes the settings to params.yaml and plans the retraining.

    Args:
        settings: keys below `components.<component>` and their new values, e.g. `{"training.steps": 500}`.

    Raises:
        ConfigError: the component is unknown, a setting is invalid, or a stage before it is stale. params.yaml is
            unchanged.
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
    """The digest of the component that a stage has published; None if there is no component yet."""
    for out in node.outs:
        if artifact_kind(project.root / out) == "component":
            return folder_digest(project.root / out)
    return None


def _verb(outcome: str) -> str:
    return {"ran": "retrained", "restored": "restored from DVC's run cache"}.get(outcome, outcome)
