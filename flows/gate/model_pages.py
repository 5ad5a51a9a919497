"""The page of each registered version in MLflow: the report's page of its model, at the run that registered it."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cclm_core.report import FILE, KIND, page_of
from cclm_core.runtime.artifacts import write_text
from flows.gate.registry import Registry
from flows.graph.evaluations import evaluations
from flows.graph.node import artifact_kind
from flows.graph.plan import Plan
from flows.project import Project
from flows.tracking.client import NOTE_TAG, Tracking


def published_report(project: Project, plan: Plan) -> Path | None:
    """The folder of the published report; None if no stage has made one."""
    outs = (project.root / out for node in plan.nodes.values() for out in node.outs)
    return next((out for out in outs if artifact_kind(out) == KIND), None)


def current_report(project: Project, plan: Plan) -> Path | None:
    """The folder of the published report, if its stage is up to date in `plan`; otherwise None."""
    stale = plan.stale()
    is_stale = any(node.is_summary and name in stale for name, node in plan.nodes.items())
    return None if is_stale else published_report(project, plan)


def attach_pages(
    tracking: Tracking, plan: Plan, report: Path | None, decisions: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Logs the pages of registered versions to the runs that registered them, as `report.html`.

    Args:
        tracking: the connection to MLflow.
        plan: the stages.
        report: the folder of the report; None to log nothing.
        decisions: the `name`, `model` and `version` of each.

    Returns:
        The names of the models whose pages were logged.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    project, registry = tracking.project, Registry(tracking)
    if report is None:
        return []
    models = {evaluation.name: evaluation.model for evaluation in evaluations(plan, project)}
    attached = []
    for decision in decisions:
        page = report / page_of(models[decision["name"]].relative_to(project.root).as_posix())
        if not page.is_file():
            continue
        run_id = registry.run_of(decision["model"], decision["version"])
        note = (
            f"Registered as {decision['model']} version {decision['version']}. Its page, with scores, mistakes and "
            f"lineage: `{FILE}` among the artifacts."
        )
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / FILE
            write_text(copy, page.read_text(encoding="utf-8"))
            tracking.log_files(run_id, [(copy, "")])
        tracking.log(run_id, tags={NOTE_TAG: note})
        attached.append(str(decision["name"]))
    return attached
