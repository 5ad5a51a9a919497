"""The tasks of the flows: a stage, promotion, the push to DVC's remote. What they return is small JSON."""

from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.tasks import Task

from flows import elsewhere, environment
from flows.graph import Node, Plan, evaluations
from flows.records import read_record
from flows.remotes import push_outputs
from flows.repro import StageError, StageResult, reproduce, unchanged
from flows.runners import training_resources
from flows.tracking import TrackingError, connect, warn

RETRIES_OF_TRAINING = 1  # a crashed training resumes from its checkpoint


@task(name="stage", task_run_name="{node.name}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(
    root: Path,
    node: Node,
    parent: str | None,
    tracked: bool,
    stale: bool,
    force: bool,
    tags: dict[str, str],
    after: list[Any],  # noqa: ARG001 - what it waits for
) -> dict[str, Any]:
    """Brings one stage up to date through DVC, the only cache; returns small JSON, see `StageResult`."""
    environment.apply(root)
    logger = get_run_logger()
    if not stale and not force:
        return unchanged(root, node).as_json()
    if node.needs_device and elsewhere.enabled():
        return elsewhere.train(root, node, parent, tracked, logger.info).as_json()
    result = reproduce(root, node, parent, tracked, force, logger.info)
    if tracked and tags and result.outcome == "ran":
        _tag(root, node, tags)
    return result.as_json()


@task(name="promote", task_run_name="promote", cache_policy=NO_CACHE, persist_result=False)
def promote(root: Path, plan: Plan, names: list[str], parent: str | None) -> list[dict[str, Any]]:
    """Registers the compositions that are up to date and puts each new one through the gate."""
    from flows.promote import promote_all

    logger = get_run_logger()
    measured = [evaluation for evaluation in evaluations(plan, root) if evaluation.name in names]
    return [decision.as_json() for decision in promote_all(root, measured, parent, logger.info)]


@task(name="push", task_run_name="push", cache_policy=NO_CACHE, persist_result=False)
def push(root: Path) -> str | None:
    """Copies the outputs that dvc.lock records to DVC's remote; returns its name, None where there is none."""
    return push_outputs(root)


def submit(
    root: Path,
    node: Node,
    after: list[PrefectFuture[dict[str, Any]]],
    *,
    parent: str | None,
    tracked: bool,
    stale: bool,
    force: bool,
    tags: dict[str, str],
) -> PrefectFuture[dict[str, Any]]:
    """Starts a stage once the stages that it waits for are done; a training also waits for its device.

    They are an argument of the task, not Prefect's `wait_for`: Ray then holds no device for a task that still waits.
    """
    given = (root, node, parent, tracked, stale, force, tags, after)
    if not node.needs_device:
        return run_stage.submit(*given)
    training: Task[..., dict[str, Any]] = run_stage.with_options(
        retries=RETRIES_OF_TRAINING, retry_delay_seconds=1, retry_condition_fn=_crashed
    )
    with training_resources():
        return training.submit(*given)


def outcome(name: str, future: PrefectFuture[dict[str, Any]]) -> dict[str, Any]:
    """What became of a stage, once it is over: its `StageResult` as JSON, for one that failed as well."""
    future.wait()
    if future.state.is_completed():
        return future.result()
    if future.state.is_pending():  # NotReady: what it waits for failed
        return StageResult(name, "not run", message="a stage that it needs failed").as_json()
    error = future.state.result(raise_on_failure=False)
    if isinstance(error, StageError):
        return StageResult(name, "failed", message=str(error)).as_json()
    return StageResult(name, "failed", message=f"{name}: {future.state.message or error}").as_json()


def _crashed(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.may_retry


def _tag(root: Path, node: Node, tags: dict[str, str]) -> None:
    record = read_record(root, node.name)
    if record is None or record.run_id is None:
        return  # that it is not tracked has been said
    try:
        connect(root).log(record.run_id, tags=tags)
    except TrackingError as error:
        warn(f"{node.name}: its run in MLflow lacks the tags {tags} ({error}).")
