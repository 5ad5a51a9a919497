"""What Prefect's own pages show of a run: how the compositions compare, and where MLflow has it all."""

from typing import Any

from flows.graph.evaluations import evaluations
from flows.graph.plan import Plan
from flows.messages import warn
from flows.project import Project
from flows.run.tables import comparison, comparison_rows
from flows.tracking.client import TrackingError, connect, page


def publish_artifacts(project: Project, plan: Plan, summary: dict[str, Any]) -> None:
    """Adds to the running flow a table of the compositions, one of the gate's answers, and a link to its MLflow run.

    A flow never fails because of its pages: a warning is printed. There is no link if MLflow is not a server.
    """
    from httpx import HTTPError
    from prefect.artifacts import create_link_artifact, create_table_artifact
    from prefect.exceptions import PrefectException

    compared = comparison(project, evaluations(plan, project))
    try:
        if compared:
            rows: list[dict[str, Any]] = [*comparison_rows(compared)]
            create_table_artifact(rows, key="compositions", description="Compositions compared (* best of the row)")
        if promotion := summary.get("promotion"):
            columns = ("composition", "model", "version", "result", "reason")
            create_table_artifact(
                [{name: decision[name] for name in columns} for decision in promotion],
                key="promotion",
                description="Decisions of the gate",
            )
        if address := run_address(project, summary.get("parent_run")):
            create_link_artifact(address, link_text="This run in MLflow", key="mlflow-run")
    except (HTTPError, PrefectException) as error:
        warn(f"Prefect's pages have no tables of this run ({type(error).__name__}: {error}).")


def run_address(project: Project, run_id: str | None) -> str | None:
    """The page of a run on the MLflow server; None without a run or where MLflow is no server."""
    if run_id is None:
        return None
    try:
        tracking = connect(project)
    except TrackingError:
        return None  # a warning was printed before
    if not tracking.uri.startswith("http"):
        return None
    scheme, rest = tracking.uri.rstrip("/").split("://", 1)
    host = rest.rpartition("@")[2]  # a name and a password in the address are nobody else's business
    return page(f"{scheme}://{host}", tracking.experiment_id, run_id)
