"""Runs in MLflow that are RUNNING though the process that must end them is gone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows import processes
from flows.doctor.finding import Finding, Project
from flows.follow import Follower
from flows.graph import Node, read_plan
from flows.open_runs import abandoned, closed
from flows.records import StageRecord, last_values, read_record, reports_path
from flows.tracking import PROCESS_TAG, Tracking, enabled, guarded

REASON_TAG = "cclm.reason"
KILLED_CODE = -9


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each such run, of this machine; a process elsewhere cannot be looked at from here.

    Raises:
        UncheckedError: MLflow does not answer.
    """
    tracking = project.tracking
    if tracking is None:
        return
    for run in _running(tracking):
        process = run.data.tags.get(PROCESS_TAG, "")
        if not process or not processes.is_gone(process) or _still_works(project.root, run):
            continue
        yield Finding(
            subject=f"{run.info.run_name} in MLflow, run {run.info.run_id}",
            problem=f"it is RUNNING, and process {processes.split(process)[1]}, which must end it, is gone",
            since=last_sign(project.root, run),
            remedy="forwards what it had reported, and ends it as its stage ended: KILLED, if that was cut short",
            repair=lambda run=run: close(project.root, tracking, run),  # type: ignore[misc]
        )
    for one in abandoned(project.root, "mlflow"):
        if one.where != tracking.uri:
            yield Finding(
                subject=f"run {one.id} in MLflow",
                problem=f"process {processes.split(one.process)[1]} left it open in {one.where}, not in {tracking.uri}",
                since=one.opened,
                remedy=f"run the doctor with MLFLOW_TRACKING_URI={one.where}",
            )


def close_abandoned(root: Path) -> list[str]:
    """Ends the runs that local records say were left open; returns what was done. Without any, MLflow is not asked.

    Raises:
        TrackingError: MLflow does not answer.
    """
    from flows.tracking import connect

    left = abandoned(root, "mlflow")
    if not left or not enabled():
        return []
    tracking, said = connect(root), []
    for one in left:
        run = _find(tracking, one.id) if one.where == tracking.uri else None
        if run is None or _still_works(root, run):
            continue
        if run.info.status == "RUNNING":
            said.append(f"{run.info.run_name} in MLflow: {close(root, tracking, run)}")
        closed(root, "mlflow", one.id)
    return said


def close(root: Path, tracking: Tracking, run: Any) -> str:
    """Ends a run whose process is gone, with what the stage's record and reports say of it.

    Raises:
        TrackingError: MLflow does not answer.
    """
    run_id, tags = run.info.run_id, run.data.tags
    record = _record(root, run)
    if record is None:
        tracking.set_status(run_id, "KILLED", last_sign(root, run))
        status = "KILLED"
    else:
        if record.ended is None:
            ended = last_sign(root, run)
            record = record.with_(ended=ended, exit_code=KILLED_CODE, killed=True, message="its process was killed")
        nodes = read_plan(root, changes=False).nodes
        node = nodes.get(record.stage) or Node(record.stage, (), {}, (), (), {})
        follower = Follower(root, tracking, node, tags.get("mlflow.parentRunId"))
        follower.run_id = run_id
        follower.start(record)
        follower.finish(record)
        record.with_(run_id=run_id).write(root)
        status = record.status
    who = processes.split(tags.get(PROCESS_TAG, ""))[1]
    tracking.log(run_id, tags={REASON_TAG: f"process {who} was gone before it had ended this run; ended from records"})
    return f"ended it as {status}"


def last_sign(root: Path, run: Any) -> float:
    """When a run was last heard of: its stage's last report, else its start; Unix seconds."""
    started = run.info.start_time / 1000
    record = _record(root, run)
    if record is None or not last_values(root, record.stage):
        return float(started)
    return max(float(started), reports_path(root, record.stage).stat().st_mtime)


def _running(tracking: Tracking) -> list[Any]:
    with guarded():
        return list(tracking.client.search_runs([tracking.experiment_id], "attributes.status = 'RUNNING'"))


def _find(tracking: Tracking, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    with guarded():
        try:
            return tracking.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # deleted for good
                closed(tracking.root, "mlflow", run_id)
                return None
            raise


def _record(root: Path, run: Any) -> StageRecord | None:
    """The record of this very run of a stage; None for a pipeline's run, or when the stage has run again since."""
    stage = run.data.tags.get("dvc.stage")
    record = read_record(root, stage) if stage else None
    return record if record is not None and int(record.started * 1000) == run.info.start_time else None


def _still_works(root: Path, run: Any) -> bool:
    """Whether its stage works on, though who followed it is gone: then it is ended once that has ended."""
    record = _record(root, run)
    return record is not None and record.running
