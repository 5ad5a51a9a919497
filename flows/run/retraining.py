"""Plans the retraining of one component or task, without Prefect."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cclm_core.runtime.artifacts import folder_digest
from flows.graph.node import Node, artifact_kind
from flows.graph.params_file import undone_if_refused, write_settings
from flows.graph.plan import Plan
from flows.graph.selection import TRAINED, refuse_stale_before, trained_section, training_stage, with_dependents
from flows.project import Project
from flows.run.checks import checked_plan


@dataclass(frozen=True)
class Retraining:
    """The retraining of one component or task.

    Attributes:
        name: name in params.yaml.
        kind: `component` or `task`.
        section: its section of params.yaml.
        plan: the plan of the whole pipeline.
        stage: the stage that trains it.
        nodes: that stage, and the stages after it: of the compositions that contain a component, and of the tasks that
            start from these compositions.
        stale: names of the stale stages among `nodes`.
        before: the digest of the current model; None if it was never trained.
    """

    name: str
    kind: str
    section: str
    plan: Plan
    stage: str
    nodes: dict[str, Node]
    stale: tuple[str, ...]
    before: str | None

    def summary(self, project: Project, outcome: str) -> dict[str, Any]:
        """The result as JSON-compatible values: the digests before and after, and a message.

        Args:
            outcome: of the training stage, see `StageResult.outcome`.
        """
        after = model_digest(project, self.nodes[self.stage])
        if outcome == "unchanged":
            message = f"{self.name} is up to date with its settings and was not retrained"
        elif after == self.before:
            message = f"{self.name} was {_verb(outcome)}, with identical results, so nothing else changed"
        else:
            message = f"{self.name} was {_verb(outcome)}"
        return {self.kind: self.name, "parent": self.before, "digest": after, "message": message}


def plan_retraining(project: Project, name: str, settings: Mapping[str, Any], section: str | None = None) -> Retraining:
    """Writes the settings to params.yaml and plans the retraining.

    Args:
        name: a component or a task.
        settings: keys below its entry in params.yaml and their new values, e.g. `{"training.steps": 500}`.
        section: `components` or `tasks`; None for the one that has the name.

    Raises:
        ConfigError: the name is unknown, a setting is invalid, or a stage before it is stale. params.yaml is unchanged.
    """
    plan = checked_plan(project)
    section = section or trained_section(plan, name)
    stage = training_stage(plan, name, section)
    refuse_stale_before(plan, with_dependents(plan, stage))
    with undone_if_refused(project):
        if settings and write_settings(project, name, settings, section):
            plan = checked_plan(project)
    nodes = with_dependents(plan, stage)
    stale = tuple(stage for stage in plan.stale() if stage in nodes)
    return Retraining(name, TRAINED[section], section, plan, stage, nodes, stale, model_digest(project, nodes[stage]))


def model_digest(project: Project, node: Node) -> str | None:
    """The digest of the component or task that a stage has published; None before the first one."""
    for out in node.outs:
        if artifact_kind(project.root / out) in TRAINED.values():
            return folder_digest(project.root / out)
    return None


def _verb(outcome: str) -> str:
    return {"ran": "retrained", "restored": "restored from DVC's run cache"}.get(outcome, outcome)
