"""Measuring compositions again, with what is trained now."""

from typing import Any

from prefect import flow

from flows.devices.runners import task_runner
from flows.graph.selection import evaluation_stages, refuse_stale_before
from flows.project import Project
from flows.run.pipeline import Work, carry_out
from flows.run.preparation import checked_plan, prepared


@flow(name="evaluate", task_runner=task_runner(), persist_result=False)
def evaluate(compositions: list[str] = []) -> dict[str, Any]:  # noqa: B006 - the form's own type
    """Composes, evaluates and gates compositions of the components as they are; it trains nothing.

    Args:
        compositions: Their names in params.yaml, under `compositions`; all when empty.

    Raises:
        PipelineError: a stage failed.
        ConfigError: there is no such composition, what it is made from is stale, or another run is at work on this
            clone.
    """
    project = Project.find()
    with prepared(project):
        plan = checked_plan(project)
        nodes = evaluation_stages(plan, compositions)
        refuse_stale_before(plan, nodes)
        return carry_out(project, plan, Work(nodes, gated=frozenset(nodes)))
