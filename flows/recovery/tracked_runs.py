"""MLflow runs that are RUNNING although the process that should end them is gone."""

from typing import Any

from flows import processes
from flows.graph.node import Node
from flows.graph.plan import read_plan
from flows.project import Project
from flows.tracking.client import PROCESS_TAG, Tracking, connect, enabled, guarded
from flows.tracking.follow import Follower
from flows.tracking.open_runs import abandoned, record_closed
from flows.tracking.records import StageRecord, last_values, read_record, reports_path

REASON_TAG = "cclm.reason"
KILLED_CODE = -9


def close_abandoned(project: Project) -> list[str]:
    """Ends the open runs of this project's killed processes. Connects to MLflow only if there are any.

    Returns:
        one message per ended run.

    Raises:
        TrackingError: MLflow does not answer.
    """
    notes = abandoned(project, "mlflow")
    if not notes or not enabled():
        return []
    tracking, messages = connect(project), []
    for note in notes:
        run = _get(tracking, note.id) if note.where == tracking.uri else None
        if run is None or stage_is_running(project, run):
            continue
        if run.info.status == "RUNNING":
            messages.append(f"{run.info.run_name} in MLflow: {close(project, tracking, run)}")
        record_closed(project, "mlflow", note.id)
    return messages


def close(project: Project, tracking: Tracking, run: Any) -> str:
    """Ends a run from the record and reports of its stage; returns a description.

    Raises:
        TrackingError: MLflow does not answer.
    """
    run_id, tags = run.info.run_id, run.data.tags
    record = _record(project, run)
    if record is None:
        tracking.set_status(run_id, "KILLED", last_sign(project, run))
        status = "KILLED"
    else:
        if record.ended is None:
            ended = last_sign(project, run)
            record = record.with_(ended=ended, exit_code=KILLED_CODE, killed=True, message="its process was killed")
        nodes = read_plan(project, changes=False).nodes
        node = nodes.get(record.stage) or Node(record.stage)
        follower = Follower(project, tracking, node, tags.get("mlflow.parentRunId"))
        follower.run_id = run_id
        follower.start(record)
        follower.finish(record)
        record.with_(run_id=run_id).write(project)
        status = record.status
    pid = processes.split(tags.get(PROCESS_TAG, ""))[1]
    tracking.log(run_id, tags={REASON_TAG: f"process {pid} was gone before it ended this run; ended from its records"})
    return f"ended it as {status}"


def last_sign(project: Project, run: Any) -> float:
    """The time of a run's last activity in Unix seconds: the last report of its stage, or its start."""
    started = run.info.start_time / 1000
    record = _record(project, run)
    if record is None or not last_values(project, record.stage):
        return float(started)
    return max(float(started), reports_path(project, record.stage).stat().st_mtime)


def running(tracking: Tracking) -> list[Any]:
    """All runs with the status RUNNING.

    Raises:
        TrackingError: MLflow does not answer.
    """
    with guarded():
        return list(tracking.client.search_runs([tracking.experiment_id], "attributes.status = 'RUNNING'"))


def stage_is_running(project: Project, run: Any) -> bool:
    """Whether the stage of a run is still running without its follower. Such a run is ended after the stage."""
    record = _record(project, run)
    return record is not None and record.running


def _get(tracking: Tracking, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    with guarded():
        try:
            return tracking.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # deleted permanently
                record_closed(tracking.project, "mlflow", run_id)
                return None
            raise


def _record(project: Project, run: Any) -> StageRecord | None:
    """The record of a stage's run; None for a pipeline run, or if the stage has run again since."""
    stage = run.data.tags.get("dvc.stage")
    record = read_record(project, stage) if stage else None
    return record if record is not None and int(record.started * 1000) == run.info.start_time else None
