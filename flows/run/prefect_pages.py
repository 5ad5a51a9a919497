"""Artifacts of a flow run in Prefect's UI: the page about the run, tables, links to MLflow."""

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from flows.graph.evaluations import evaluations
from flows.graph.plan import Plan
from flows.messages import warn
from flows.project import Project
from flows.run.before_after import Change
from flows.run.report_page import answer_markdown
from flows.run.tables import comparison, comparison_rows, current, evaluation_warnings, legend
from flows.run.task_table import task_rows
from flows.tracking.client import TrackingError, connect, page_url

PAGE = "about-this-run"
"""The key of the artifact with the page about the run."""

RUN_LINK = "This run in MLflow"
_DESCRIPTION = "What is better, what the gate decided, what changed, what ran"
_ATTEMPTS = 40  # with six other artifacts, the page is not the first with a probability of 0.002


def publish_artifacts(project: Project, plan: Plan, summary: dict[str, Any]) -> None:
    """Adds to the current flow run the answer of the report, tables of results and gate decisions, a link to MLflow.

    The link is left out if MLflow has no server. If Prefect fails, a warning is printed and the flow continues.
    """
    from httpx import HTTPError
    from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
    from prefect.exceptions import PrefectException

    measured = current(evaluations(plan, project), summary["stages"])
    compared = comparison(project, [evaluation for evaluation in measured if not evaluation.is_task])
    tasks = task_rows(comparison(project, [evaluation for evaluation in measured if evaluation.is_task]))
    text = answer_markdown(project, plan) if summary.get("report") else ""
    changed = [Change(**change).row() for change in summary.get("metric_changes") or ()]
    try:
        if text:
            text += f"\n\nThe whole report: `{summary['report']}`, also among the artifacts of the run in MLflow."
            create_markdown_artifact(text, key="report", description="What is better, and what to do next")
        if changed:
            create_table_artifact([*changed], key="before-after", description="Before and after this run")
        if compared:
            rows: list[dict[str, Any]] = [*comparison_rows(compared)]
            description = "\n\n".join([f"Compositions compared ({legend(rows)})", *evaluation_warnings(measured)])
            create_table_artifact(rows, key="compositions", description=description)
        if tasks:
            create_table_artifact([*tasks], key="tasks", description=f"Tasks ({legend(tasks)})")
        if promotion := summary.get("promotion"):
            columns = ("name", "model", "version", "result", "reason")
            create_table_artifact(
                [{name: decision[name] for name in columns} for decision in promotion],
                key="promotion",
                description="Gate decisions: the result for each composition and task, and the reason",
            )
        if address := page_links(project, summary).get(RUN_LINK):
            create_link_artifact(address, link_text=RUN_LINK, key="mlflow-run")
    except (HTTPError, PrefectException) as error:
        warn(f"the tables of this run could not be added to Prefect's UI ({type(error).__name__}: {error}).")


def name_flow_run(name: str) -> None:
    """Renames the current flow run. If Prefect fails, a warning is printed and the flow continues."""
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException
    from prefect.runtime import flow_run

    if not flow_run.id:
        return  # the flow's function was called directly
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(flow_run.id, name=name)
    except (HTTPError, PrefectException) as error:
        warn(f"the flow run could not be renamed to {name!r} ({type(error).__name__}: {error}).")


def publish_page(page: str) -> None:
    """Adds the page to the current flow run, before its other artifacts; call it after those were added.

    Prefect's pages sort the artifacts of a run by descending ID, and the server draws IDs at random. So the page is
    created again until it has the largest. If Prefect fails, a warning is printed and the flow continues.
    """
    from httpx import HTTPError
    from prefect.artifacts import create_markdown_artifact
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter
    from prefect.exceptions import PrefectException
    from prefect.runtime import flow_run

    if not flow_run.id:
        return
    try:
        with get_client(sync_client=True) as client:
            selection = ArtifactFilter.model_validate({"flow_run_id": {"any_": [flow_run.id]}})
            others = [artifact.id for artifact in client.read_artifacts(artifact_filter=selection) if artifact.key]
            for attempt in range(_ATTEMPTS):
                created = cast(UUID, create_markdown_artifact(page, key=PAGE, description=_DESCRIPTION))
                if all(created > other for other in others) or attempt == _ATTEMPTS - 1:
                    return
                client.delete_artifact(created)
    except (HTTPError, PrefectException) as error:
        warn(f"the page about this run could not be added to Prefect's UI ({type(error).__name__}: {error}).")


def page_links(project: Project, summary: Mapping[str, Any]) -> dict[str, str]:
    """The pages of a run on the MLflow server and their URLs: its run, then the saved views; empty without a server.

    Args:
        project: the project.
        summary: the result of the run, see `flows.run.pipeline.carry_out`.
    """
    run_id = summary.get("parent_run")
    if run_id is None:
        return {}
    try:
        tracking = connect(project)
    except TrackingError:
        return {}  # already reported
    if not tracking.uri.startswith("http"):
        return {}
    scheme, rest = tracking.uri.rstrip("/").split("://", 1)
    server = f"{scheme}://{rest.rpartition('@')[2]}"  # drops the user name and password from the URL
    views = {name: f"{server}/{path}" for name, path in (summary.get("views") or {}).items()}
    return {RUN_LINK: page_url(server, tracking.experiment_id, run_id)} | views
