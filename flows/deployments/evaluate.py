"""The flow that composes and evaluates without training."""

from typing import Any

from prefect import flow

from flows.devices.runners import task_runner
from flows.graph.selection import evaluation_stages, refuse_stale_before
from flows.project import Project
from flows.run.checks import checked_plan
from flows.run.pipeline import Work, carry_out
from flows.run.preparation import prepared


@flow(name="evaluate", flow_run_name="evaluate", task_runner=task_runner(), persist_result=False)
def evaluate(compositions: list[str] = []) -> dict[str, Any]:  # noqa: B006 - the form's own type
    """Composes, evaluates and gates compositions of the current components. Trains nothing.

    Args:
        compositions: Names from `compositions` in params.yaml. Empty for all.

    Raises:
        PipelineError: a stage failed.
        ConfigError: a composition is unknown, its parts or data are stale, or another run is in progress in this clone.
    """
    project = Project.find()
    with prepared(project):
        plan = checked_plan(project)
        nodes = evaluation_stages(plan, compositions)
        refuse_stale_before(plan, nodes)
        title = " ".join(["evaluate", *compositions])
        return carry_out(project, plan, Work(nodes, gated=frozenset(nodes), title=title))
