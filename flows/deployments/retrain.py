"""Retraining one component: it, the compositions that contain it, their evaluation and gate; nothing else changes."""

from typing import Any

from prefect import flow

from flows.devices.runners import task_runner
from flows.gate.lineage import PARENT_TAG
from flows.project import Project
from flows.run.pipeline import Work, carry_out
from flows.run.preparation import prepared
from flows.run.retraining import plan_retraining

COMPONENT_TAG = "cclm.component"


@flow(name="retrain-component", task_runner=task_runner(), persist_result=False)
def retrain_component(
    component: str,
    settings: dict[str, Any] = {},  # noqa: B006 - the form's own type
    force: bool = False,
) -> dict[str, Any]:
    """Retrains one component, then recomposes, evaluates and gates the compositions that contain it, and nothing else.

    Args:
        component: Its name in params.yaml, under `components`.
        settings: Keys below `components.<component>` with their new values, e.g. `{"training.steps": 500}`. They are
            checked, then written into params.yaml.
        force: Train it even if nothing changed.

    Raises:
        PipelineError: a stage failed.
        ConfigError: there is no such component, a setting is wrong, a stage that is needed is stale, or another run is
            at work on this clone.
    """
    project = Project.find()
    with prepared(project):
        planned = plan_retraining(project, component, settings)
        # What a component was before belongs to its run; its own bytes do not depend on it.
        lineage = {COMPONENT_TAG: component} | ({PARENT_TAG: planned.before} if planned.before else {})
        work = Work(
            planned.nodes,
            forced=frozenset([planned.stage] if force else []),
            gated=frozenset(planned.nodes),
            tags={planned.stage: lineage},
            pipeline_tags=lineage,
        )
        summary = carry_out(project, planned.plan, work)
        outcome = next(row["outcome"] for row in summary["stages"] if row["stage"] == planned.stage)
        return summary | {"retrained": planned.summary(project, outcome)}
