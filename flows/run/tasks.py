"""The Prefect tasks: run a stage, promote, push to DVC's remote. They return small JSON-compatible values."""

import time
from collections.abc import Callable
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.tasks import Task

from flows import environment
from flows.devices.runners import training_resources
from flows.graph.evaluations import evaluations
from flows.graph.node import Node
from flows.graph.plan import Plan
from flows.messages import warn
from flows.project import Project
from flows.remote import workers
from flows.remote.dvc_remote import push_outputs
from flows.run.dvc_repro import StageError, StageResult, reproduce, unchanged
from flows.run.kept import keep_results
from flows.tracking.client import TrackingError, connect
from flows.tracking.records import read_record

TRAINING_RETRIES = 1  # after a crash; the retry resumes from the last checkpoint


@task(name="stage", task_run_name="{node.name}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(
    project: Project,
    node: Node,
    parent: str | None,
    tracked: bool,
    stale: bool,
    force: bool,
    tags: dict[str, str],
    after: list[Any],  # noqa: ARG001 - Prefect waits for these results
) -> dict[str, Any]:
    """Brings a stage up to date through DVC. DVC is the only cache; Prefect's caching is off.

    Returns:
        A `StageResult` as JSON-compatible values.
    """
    environment.apply(project)
    logger = get_run_logger()
    if not stale and not force:
        return unchanged(project, node).as_json()
    if not force and keep_results(project, node, logger.info):
        return unchanged(project, node).as_json()
    if node.needs_device and workers.enabled():
        return _on_worker(project, node, parent, tracked, logger.info).as_json()
    result = reproduce(project, node, parent, tracked, force, logger.info)
    if tracked and tags and result.outcome == "ran":
        _tag(project, node, tags)
    return result.as_json()


@task(name="promote", task_run_name="promote", cache_policy=NO_CACHE, persist_result=False)
def promote(project: Project, plan: Plan, names: list[str], parent: str | None) -> list[dict[str, Any]]:
    """Registers the given compositions and tasks, and runs the gate on each new one.

    Returns:
        A `Decision` for each as JSON-compatible values.
    """
    from flows.gate.promote import promote_all

    logger = get_run_logger()
    measured = [evaluation for evaluation in evaluations(plan, project) if evaluation.name in names]
    return [decision.as_json() for decision in promote_all(project, measured, parent, logger.info)]


@task(name="push", task_run_name="push", cache_policy=NO_CACHE, persist_result=False)
def push(project: Project) -> str | None:
    """Copies the outputs recorded in dvc.lock to DVC's remote; returns its name, or None without a remote."""
    return push_outputs(project)


def submit(
    project: Project,
    node: Node,
    after: list[PrefectFuture[dict[str, Any]]],
    *,
    parent: str | None,
    tracked: bool,
    stale: bool,
    force: bool,
    tags: dict[str, str],
) -> PrefectFuture[dict[str, Any]]:
    """Submits a stage to run after the stages that it needs. Stages that train also wait for a device slot.

    Args:
        after: futures of the stages that it needs. They are passed as a task argument instead of `wait_for`, so that
            Ray reserves no device for a waiting task.
    """
    arguments = (project, node, parent, tracked, stale, force, tags, after)
    if not node.needs_device:
        return run_stage.submit(*arguments)
    training: Task[..., dict[str, Any]] = run_stage.with_options(
        retries=TRAINING_RETRIES, retry_delay_seconds=1, retry_condition_fn=_crashed
    )
    with training_resources():
        return training.submit(*arguments)


def outcome(name: str, future: PrefectFuture[dict[str, Any]]) -> dict[str, Any]:
    """Waits for a stage and returns its `StageResult` as JSON-compatible values, even if it failed."""
    future.wait()
    if future.state.is_completed():
        return future.result()
    if future.state.is_pending():  # Prefect's state NotReady
        return StageResult(name, "not run", message="a stage that it depends on failed").as_json()
    error = future.state.result(raise_on_failure=False)
    if isinstance(error, StageError):
        return StageResult(name, "failed", message=str(error)).as_json()
    return StageResult(name, "failed", message=f"{name}: {future.state.message or error}").as_json()


def _on_worker(
    project: Project, node: Node, parent: str | None, tracked: bool, emit: Callable[[str], None]
) -> StageResult:
    started = time.time()
    try:
        workers.train_on_worker(project, node, parent, tracked, emit)
    except workers.WorkerError as error:
        raise StageError(node.name, 1 if error.crashed else None, str(error), error.cancelled) from None
    ended = time.time()
    result = reproduce(project, node, parent, tracked, False, emit, pull=True)
    return StageResult(node.name, "ran", ended - started, started, ended, result.digests)


def _crashed(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.may_retry


def _tag(project: Project, node: Node, tags: dict[str, str]) -> None:
    record = read_record(project, node.name)
    if record is None or record.run_id is None:
        return  # not tracked; already reported
    try:
        connect(project).log(record.run_id, tags=tags)
    except TrackingError as error:
        warn(f"{node.name}: could not add the tags {tags} to its run in MLflow ({error}).")
