"""The Prefect flow: one task for each stage of dvc.yaml, the independent ones side by side, promotion last."""

import time
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from cclm_core.artifacts import write_json
from flows import environment
from flows.doctor.flow_runs import noted
from flows.graph import Node, Plan, evaluations, read_plan
from flows.open_runs import driving
from flows.parents import create_parent
from flows.paths import project_root, state
from flows.repro import StageError, StageResult, reproduce, stop_all, unchanged
from flows.tracking import TrackingError, connect, enabled, log_pipeline_files, warn

RETRIES_OF_TRAINING = 1  # a crashed training resumes from its checkpoint


class PipelineError(Exception):
    """Stages failed, or the compositions could not be registered; the summary says which and how."""

    def __init__(self, summary: dict[str, Any]) -> None:
        self.summary = summary
        super().__init__("\n".join(stage["message"] for stage in summary["stages"] if stage["outcome"] == "failed"))


@task(name="stage", task_run_name="{node.name}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(node: Node, parent: str | None, tracked: bool, stale: bool, force: bool) -> dict[str, Any]:
    """Brings one stage up to date through DVC, the only cache; returns small JSON, see `StageResult`."""
    root, logger = project_root(), get_run_logger()
    if not stale and not force:
        return unchanged(root, node).as_json()
    return reproduce(root, node, parent, tracked, force, logger.info).as_json()


@task(name="promote", task_run_name="promote", cache_policy=NO_CACHE, persist_result=False)
def promote(plan: Plan, names: list[str], parent: str | None) -> list[dict[str, Any]]:
    """Registers the compositions that are up to date and puts each new one through the gate."""
    from flows.promote import promote_all

    root, logger = project_root(), get_run_logger()
    measured = [evaluation for evaluation in evaluations(plan, root) if evaluation.name in names]
    return [decision.as_json() for decision in promote_all(root, measured, parent, logger.info)]


@flow(name="pretrain", task_runner=ThreadPoolTaskRunner(), persist_result=False)  # type: ignore[arg-type]
def pretrain(targets: list[str] | None = None, force: list[str] | None = None) -> dict[str, Any]:
    """Brings the pipeline up to date: every stage that changed, or those that `targets` names with what they need.

    Args:
        targets: stages, e.g. `pretrain@entities`, or groups of them, e.g. `evaluate`; all when empty.
        force: stages that run even if nothing changed.

    Raises:
        PipelineError: a stage failed; its dependents did not run, the others did.
    """
    root = project_root()
    environment.apply(root)
    with driving(root), noted(root):
        summary, failed = _reproduced(root, targets or [], force or [])
    if failed:
        raise PipelineError(summary)
    return summary


def _reproduced(root: Path, targets: list[str], force: list[str]) -> tuple[dict[str, Any], bool]:
    plan = read_plan(root)
    nodes = plan.select([*targets, *(force if targets else [])])
    forced = set(plan.match(force))
    stale = plan.stale()
    started = time.time()
    parent, tracked = _open_parent(root)
    status = "KILLED"
    try:
        futures: dict[str, PrefectFuture[dict[str, Any]]] = {}
        after_forced: set[str] = set()
        for name, node in nodes.items():
            if name in forced or after_forced.intersection(node.needs):
                after_forced.add(name)
            futures[name] = _configured(node).submit(
                node,
                parent,
                tracked,
                name in stale or name in after_forced,
                name in forced,
                wait_for=[futures[need] for need in node.needs if need in futures],
            )
        results = [_outcome(name, future) for name, future in futures.items()]
        summary: dict[str, Any] = {"started": started, "parent_run": parent, "stages": results, "promotion": []}
        summary |= _promoted(root, plan, results, parent) if tracked else {"promotion_error": None}
        summary["ended"] = time.time()
        failed = bool(summary["promotion_error"]) or any(row["outcome"] == "failed" for row in results)
        status = "FAILED" if failed else "FINISHED"
        write_json(state(root) / "last-run.json", summary)
    finally:
        stop_all()
        _close_parent(root, parent, status)
    return summary, failed


def _configured(node: Node) -> Task[..., dict[str, Any]]:
    if not node.needs_device:
        return run_stage
    return run_stage.with_options(retries=RETRIES_OF_TRAINING, retry_delay_seconds=1, retry_condition_fn=_crashed)


def _crashed(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.may_retry


def _outcome(name: str, future: PrefectFuture[dict[str, Any]]) -> dict[str, Any]:
    future.wait()
    if future.state.is_completed():
        return future.result()
    if future.state.is_pending():  # NotReady: what it waits for failed
        return StageResult(name, "not run", message="a stage that it needs failed").as_json()
    error = future.state.result(raise_on_failure=False)
    if isinstance(error, StageError):
        return StageResult(name, "failed", message=str(error)).as_json()
    return StageResult(name, "failed", message=f"{name}: {future.state.message or error}").as_json()


def _promoted(root: Path, plan: Plan, results: list[dict[str, Any]], parent: str | None) -> dict[str, Any]:
    done = {row["stage"] for row in results if row["outcome"] not in ("failed", "not run")}
    # A target may leave out a composition's evaluation: what it would register is not measured yet.
    fresh = done | (plan.nodes.keys() - plan.stale().keys() - {row["stage"] for row in results})
    names = [
        evaluation.name
        for evaluation in evaluations(plan, root)
        if {evaluation.compose.name, evaluation.evaluate.name} <= fresh
    ]
    if not names:
        return {"promotion": [], "promotion_error": None}
    promoted = promote(plan, names, parent, return_state=True)
    if promoted.is_completed():
        return {"promotion": promoted.result(), "promotion_error": None}
    error = promoted.result(raise_on_failure=False)
    if not isinstance(error, TrackingError):
        promoted.result()  # an error of ours: it is raised, with its traceback
    return {"promotion": [], "promotion_error": str(error)}


def _open_parent(root: Path) -> tuple[str | None, bool]:
    if not enabled():
        return None, False
    try:
        return create_parent(connect(root), root, "prefect"), True
    except TrackingError as error:
        warn(f"this run is not tracked in MLflow, and no composition will be registered: {error}")
        return None, False


def _close_parent(root: Path, parent: str | None, status: str) -> None:
    if parent is None:
        return
    try:
        tracking = connect(root)
        log_pipeline_files(tracking, root, parent)
        last = state(root) / "last-run.json"
        tracking.log_files(parent, [(last, "")] if status != "KILLED" and last.is_file() else [])
        tracking.set_status(parent, status)
    except TrackingError as error:
        warn(f"the pipeline's run could not be ended in MLflow ({error}).")
