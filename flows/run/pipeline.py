"""The pipeline as a Prefect flow: one task per stage, independent stages in parallel, then promotion, then `dvc push`.

`pretrain` is the flow for the whole pipeline. Flows for parts of it are in `flows/deployments/`.
"""

import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from prefect import flow, get_run_logger
from prefect.futures import PrefectFuture, wait

from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.errors import ConfigError
from flows.devices.runners import task_runner
from flows.devices.slots import ensure_limit
from flows.gate.comparison_views import save_comparison_views
from flows.gate.gate import promotion_config
from flows.gate.model_pages import attach_pages, published_report
from flows.gate.promote import pending
from flows.graph.changes import changed_parameters, run_name
from flows.graph.evaluations import evaluations
from flows.graph.node import Node
from flows.graph.plan import Plan
from flows.graph.selection import after_forced, submission_order
from flows.messages import warn
from flows.project import Project
from flows.recovery.flow_runs import noted
from flows.remote import workers
from flows.remote.dvc_remote import PushError, wants_push
from flows.run.before_after import Snapshot, best_and_smallest, changes, snapshots
from flows.run.checks import check_parameters, checked_plan
from flows.run.dvc_repro import stop_all
from flows.run.nightly import scheduled
from flows.run.prefect_pages import name_flow_run, page_links, publish_artifacts, publish_page
from flows.run.preparation import delete_recorded_checkpoints, prepared
from flows.run.report_page import report_files, write_report
from flows.run.run_page import LAST_RUN, Changes, find_changes, run_markdown
from flows.run.tables import current
from flows.run.tasks import outcome, promote, push, submit
from flows.tracking.client import NOTE_TAG, Tracking, TrackingError, connect, enabled, log_pipeline_files
from flows.tracking.parents import create_parent
from flows.tracking.stage_notes import MAX_NOTE, fitted


class PipelineError(Exception):
    """Stages failed, or registering the models failed, or pushing the outputs failed.

    Attributes:
        summary: the result of the run, as returned by `carry_out`.
    """

    def __init__(self, summary: dict[str, Any]) -> None:
        self.summary = summary
        messages = [stage["message"] for stage in summary["stages"] if stage["outcome"] == "failed"]
        if error := summary["promotion_error"]:
            messages.append(f"the stages are done, but the compositions and tasks could not be registered: {error}")
        if error := summary["push_error"]:
            messages.append(f"the stages are done, but their outputs could not be pushed: {error}")
        super().__init__("\n".join(messages))


@dataclass(frozen=True)
class Work:
    """The scope of a run.

    Attributes:
        nodes: the stages to bring up to date, in order.
        forced: stages to run even if nothing changed.
        gated: evaluation stages whose compositions and tasks to register and gate; None for all that are up to date.
        tags: stage -> tags for its MLflow run.
        pipeline_tags: tags for the pipeline's MLflow run.
        title: what the run does, for its name.
        prefix: start of the keys of parameters that its name leaves out.
    """

    nodes: dict[str, Node]
    forced: frozenset[str] = frozenset()
    gated: frozenset[str] | None = None
    tags: Mapping[str, dict[str, str]] = field(default_factory=dict)
    pipeline_tags: Mapping[str, str] = field(default_factory=dict)
    title: str = "run"
    prefix: str = ""


@flow(name="pretrain", flow_run_name="run", task_runner=task_runner(), persist_result=False)
def pretrain(targets: list[str] = [], force: list[str] = []) -> dict[str, Any]:  # noqa: B006 - the form's own types
    """Brings the pipeline up to date: all stages, or the targets and everything they need.

    Args:
        targets: Stages such as `pretrain@entities`, or groups such as `evaluate`. Empty for all stages.
        force: Stages to run even if nothing changed.

    Raises:
        PipelineError: a stage failed. The stages after it did not run; all others did.
        ConfigError: params.yaml is invalid, or another run is in progress in this clone.
    """
    project = Project.find()
    with scheduled(project), prepared(project):
        plan = checked_plan(project)
        forced = frozenset(plan.match(force))
        nodes = plan.select([*targets, *(force if targets else [])])
        return carry_out(project, plan, Work(nodes, forced, title=" ".join(["run", *targets])))


def carry_out(project: Project, plan: Plan, work: Work) -> dict[str, Any]:
    """Runs the stages inside a flow, then promotes and pushes.

    Returns:
        A JSON-compatible summary: the results of the stages, of promotion and of the push.

    Raises:
        PipelineError: something failed. Everything that did not depend on it is done.
        ConfigError: params.yaml is invalid.
    """
    with noted(project):
        return _carry_out(project, plan, work)


def _carry_out(project: Project, plan: Plan, work: Work) -> dict[str, Any]:
    stale = plan.stale()
    delete_recorded_checkpoints(project, plan)
    has_work = bool(work.forced or stale.keys() & work.nodes.keys())
    if has_work:
        check_parameters(project)
    if workers.enabled():
        workers.check(project, work.forced, work.nodes)
    if message := ensure_limit():
        get_run_logger().warning(message)
    started, found, before = time.time(), find_changes(project, plan), snapshots(evaluations(plan, project))
    name = run_name(started, work.title, changed_parameters(project, work.nodes.values()), work.prefix)
    name_flow_run(name)
    parent, tracked = _open_parent(project, plan, work.pipeline_tags, has_work, name)
    status = "KILLED"
    try:
        results = _run_stages(project, work, stale.keys() | after_forced(work.nodes, work.forced), parent, tracked)
        summary: dict[str, Any] = {"name": name, "started": started, "parent_run": parent, "stages": results}
        summary |= {"promotion": [], "commit": project.git_revision()[0], "changes": found.as_json()}
        summary |= _promoted(project, plan, work, results, parent) if tracked else {"promotion_error": None}
        summary |= _pushed(project, results) | _metric_changes(project, plan, results, before)
        summary |= {"views": _saved_views(project, plan, parent), "ended": time.time()}
        links = page_links(project, summary)
        page = write_report(project, plan, summary, links)
        summary["report"] = None if page is None else str(page)
        publish_artifacts(project, plan, summary)
        publish_page(run_markdown(project, plan, found, summary, links))
        failed = bool(summary["promotion_error"] or summary["push_error"]) or _any_failed(results)
        status = "FAILED" if failed else "FINISHED"
        write_json(project.state() / LAST_RUN, summary)
    finally:
        stop_all()
        workers.cancel_all()
        _close_parent(project, plan, parent, status)
    if failed:
        raise PipelineError(summary)
    return summary


def _run_stages(
    project: Project, work: Work, stale: AbstractSet[str], parent: str | None, tracked: bool
) -> list[dict[str, Any]]:
    """Runs the stages and returns their results in plan order.

    DVC refuses a stage while other stages write to a folder that it reads (`Node.shares`). So it is submitted only
    after these have ended, successfully or not, and all stages that do not depend on it are submitted first.
    """
    futures: dict[str, PrefectFuture[dict[str, Any]]] = {}
    for name in submission_order(work.nodes):
        node = work.nodes[name]
        wait([futures[writer] for writer in node.shares if writer in futures])
        futures[name] = submit(
            project,
            node,
            [futures[need] for need in node.needs if need in futures],
            parent=parent,
            tracked=tracked,
            stale=name in stale,
            force=name in work.forced,
            tags=work.tags.get(name, {}),
        )
    return [outcome(name, futures[name]) for name in work.nodes]


def _promoted(
    project: Project, plan: Plan, work: Work, results: list[dict[str, Any]], parent: str | None
) -> dict[str, Any]:
    done = {row["stage"] for row in results if row["outcome"] not in ("failed", "not run")}
    # With targets, a model may have been made but not measured yet. It must not be registered.
    fresh = done | (plan.nodes.keys() - plan.stale().keys() - {row["stage"] for row in results})
    names = [
        evaluation.name
        for evaluation in evaluations(plan, project)
        if {evaluation.made_by.name, evaluation.measured_by.name} <= fresh
        and (work.gated is None or evaluation.measured_by.name in work.gated)
    ]
    if not names:
        return {"promotion": [], "promotion_error": None}
    promoted = promote(project, plan, names, parent, return_state=True)
    if promoted.is_completed():
        return {"promotion": promoted.result(), "promotion_error": None}
    error = promoted.result(raise_on_failure=False)
    if not isinstance(error, TrackingError):
        promoted.result()  # a bug, not a failure of MLflow: raises it with its traceback
    return {"promotion": [], "promotion_error": str(error)}


def _pushed(project: Project, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Pushes the outputs if no stage failed and a push is due."""
    if _any_failed(results) or not wants_push(project):
        return {"pushed": None, "push_error": None}
    pushed = push(project, return_state=True)
    if pushed.is_completed():
        return {"pushed": pushed.result(), "push_error": None}
    error = pushed.result(raise_on_failure=False)
    if not isinstance(error, PushError | ConfigError):
        pushed.result()
    return {"pushed": None, "push_error": str(error)}


def _metric_changes(
    project: Project, plan: Plan, results: list[dict[str, Any]], before: Mapping[str, Snapshot]
) -> dict[str, Any]:
    """The changes in the metrics, and which composition is best on what, of the models that are up to date."""
    measured = current(evaluations(plan, project), results)
    tasks = [evaluation.name for evaluation in measured if evaluation.is_task]
    changed = changes(before, snapshots(measured), promotion_config(project), tasks)
    return {"metric_changes": [change.as_json() for change in changed], "best": best_and_smallest(measured)}


def _saved_views(project: Project, plan: Plan, parent: str | None) -> dict[str, str]:
    """Brings the views of MLflow's runs page up to date; see `save_comparison_views`."""
    if parent is None:
        return {}
    try:
        return save_comparison_views(connect(project), plan)
    except TrackingError as error:
        warn(f"the views of MLflow's runs page could not be saved ({error}). The next `cclm run` tries again.")
        return {}


def _any_failed(results: list[dict[str, Any]]) -> bool:
    return any(row["outcome"] == "failed" for row in results)


def _open_parent(
    project: Project, plan: Plan, tags: Mapping[str, str], has_work: bool, name: str
) -> tuple[str | None, bool]:
    """Starts the pipeline's MLflow run, unless there is nothing to do.

    Returns:
        The run ID, and whether MLflow is enabled and reachable.
    """
    if not enabled():
        return None, False
    try:
        tracking = connect(project)
        if not has_work and not pending(project, evaluations(plan, project)):
            return None, True
        parent = create_parent(tracking, project, "prefect", name)
        tracking.log(parent, tags=tags)
        return parent, True
    except TrackingError as error:
        warn(
            f"MLflow is not available ({error}). This run is not tracked, and nothing will be registered. "
            "Run `cclm promote` later to register them."
        )
        return None, False


def _close_parent(project: Project, plan: Plan, parent: str | None, status: str) -> None:
    if parent is None:
        return
    try:
        tracking = connect(project)
        log_pipeline_files(tracking, project, parent)
        if status != "KILLED":
            _log_summary(tracking, project, plan, parent)
        tracking.set_status(parent, status)
    except TrackingError as error:
        warn(f"could not close the pipeline's run in MLflow ({error}). The next `cclm run` tries again.")


def _log_summary(tracking: Tracking, project: Project, plan: Plan, parent: str) -> None:
    """Logs the summary of the run, its report and the pages of its models, and a description of the run."""
    path = project.state() / LAST_RUN
    if not path.is_file():
        return
    summary = read_json(path)
    tracking.log_files(parent, [(path, ""), *report_files(summary)])
    # Not `current_report`: the plan is from before the run, in which the report was out of date.
    report = published_report(project, plan) if summary.get("report") else None
    attach_pages(tracking, plan, report, summary["promotion"])
    note = run_markdown(project, plan, Changes(**summary["changes"]), summary, summary["views"])
    tracking.log(parent, tags={NOTE_TAG: fitted(note, MAX_NOTE)})
