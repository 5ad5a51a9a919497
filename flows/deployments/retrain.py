"""The flow that retrains one component or task and updates what is made from it."""

from typing import Any

from prefect import flow

from flows.devices.runners import task_runner
from flows.gate.lineage import PARENT_TAG
from flows.project import Project
from flows.run.pipeline import Work, carry_out
from flows.run.preparation import prepared
from flows.run.retraining import plan_retraining

TAGS = {"component": "cclm.component", "task": "cclm.task"}


@flow(name="retrain-component", flow_run_name="retrain {component}", task_runner=task_runner(), persist_result=False)
def retrain_component(
    component: str,
    settings: dict[str, Any] = {},  # noqa: B006 - the form's own type
    force: bool = False,
    section: str = "",
) -> dict[str, Any]:
    """Retrains one component or task, then measures and gates everything that is made from it.

    For a component, these are the compositions that contain it and the tasks that start from them.

    Args:
        component: A name from `components` or `tasks` in params.yaml.
        settings: Keys below its entry with new values, such as `{"training.steps": 500}`. They are validated, then
            written to params.yaml.
        force: Train even if nothing changed.
        section: `components` or `tasks`. Needed only if both have the name.

    Raises:
        PipelineError: a stage failed.
        ConfigError: the name is unknown, a setting is invalid, a stage before it is stale, or another run is in
            progress in this clone.
    """
    project = Project.find()
    with prepared(project):
        planned = plan_retraining(project, component, settings, section or None)
        # The digest of the replaced model is a tag of the run. It is not part of the new one.
        lineage = {TAGS[planned.kind]: component} | ({PARENT_TAG: planned.before} if planned.before else {})
        work = Work(
            planned.nodes,
            forced=frozenset([planned.stage] if force else []),
            gated=frozenset(planned.nodes),
            tags={planned.stage: lineage},
            pipeline_tags=lineage,
            title=f"retrain {component}",
            prefix=f"{planned.section}.{component}.",
        )
        summary = carry_out(project, planned.plan, work)
        outcome = next(row["outcome"] for row in summary["stages"] if row["stage"] == planned.stage)
        return summary | {"retrained": planned.summary(project, outcome)}
