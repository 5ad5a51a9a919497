"""The pipeline's run in MLflow, which is the parent of the runs of its stages.

There is one for each run of the flow and for each `dvc repro`. DVC has no hooks for its start and end, so its stages
share a parent: the first stage creates it, with the DVC process as key, and each stage updates its status. The final
dvc.lock, which DVC writes after the last stage, is logged by `cclm promote`.
"""

import time
from collections.abc import Iterable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from filelock import FileLock

from cclm_core.runtime.artifacts import write_json
from cclm_core.runtime.readers import read_json
from flows import processes
from flows.graph.changes import changed_parameters, run_name
from flows.graph.node import Node
from flows.project import Project
from flows.tracking.client import PROCESS_TAG, Tracking, guarded, log_pipeline_files
from flows.tracking.open_runs import record_opened

DRIVER_TAG = "cclm.driver"


def create_parent(tracking: Tracking, project: Project, driver: str, name: str = "", process: str | None = None) -> str:
    """Starts the MLflow run of a pipeline and returns its ID.

    Args:
        driver: the program that runs the pipeline: `prefect`, `dvc` or `promote`.
        name: name of the run (default: the time and the driver).
        process: name of the process that must end the run (default: this one).
    """
    name = name or run_name(time.time(), driver, {})
    tags = {DRIVER_TAG: driver, "cclm.kind": "pipeline", PROCESS_TAG: process or processes.own_name()}
    run_id = tracking.create_run(name, tags)
    log_pipeline_files(tracking, project, run_id)
    return run_id


def newest_parent(tracking: Tracking) -> str | None:
    """The ID of the most recently started pipeline run; None before the first run."""
    with guarded():
        runs = tracking.client.search_runs(
            [tracking.experiment_id], f"tags.`{DRIVER_TAG}` != ''", max_results=1, order_by=["start_time DESC"]
        )
    return str(runs[0].info.run_id) if runs else None


class DvcParent:
    """The parent run shared by all stages of one DVC process.

    Args:
        process: the DVC process; None if the stage was started without DVC.
    """

    def __init__(self, tracking: Tracking, project: Project, process: psutil.Process | None) -> None:
        self.tracking = tracking
        self.project = project
        self.process = processes.name_of(process.pid) if process else None
        key = f"{process.pid}-{process.create_time():.2f}" if process else f"alone-{time.time_ns()}"
        self.file = project.state("parents") / f"{key}.json"
        self.lock = FileLock(project.state("locks") / "parents.lock")

    def start(self, nodes: Iterable[Node] = ()) -> str:
        """Sets the parent run to RUNNING, creates it if needed, and returns its ID.

        Args:
            nodes: the stages of the pipeline, whose changed parameters are part of its name.
        """
        with self.lock:
            if self.file.is_file():
                run_id = str(read_json(self.file, remedy="Delete it.")["run_id"])
                self.tracking.set_status(run_id, "RUNNING")
                record_opened(self.project, "mlflow", run_id, self.tracking.uri, self.process)
                log_pipeline_files(self.tracking, self.project, run_id)
            else:
                name = run_name(time.time(), "dvc repro", changed_parameters(self.project, nodes))
                run_id = create_parent(self.tracking, self.project, "dvc", name, self.process)
                self._forget_old()
                write_json(self.file, {"run_id": run_id, "worst": "FINISHED"})
        return run_id

    def end(self, status: str) -> None:
        """Ends the parent run with the worst status of its stages so far. The next stage reopens it.

        Args:
            status: of the stage that has ended: FINISHED, FAILED or KILLED.
        """
        with self.lock:
            values = read_json(self.file, remedy="Delete it.")
            if status != "FINISHED":
                values["worst"] = status
                write_json(self.file, values)
            self.tracking.set_status(values["run_id"], values["worst"])
            log_pipeline_files(self.tracking, self.project, values["run_id"])

    def _forget_old(self) -> None:
        for path in self.file.parent.glob("*.json"):
            pid = path.name.partition("-")[0]
            if not pid.isdigit() or not psutil.pid_exists(int(pid)):
                path.unlink(missing_ok=True)


def dvc_process() -> psutil.Process | None:
    """The nearest `dvc` process among the ancestors of this process; None if DVC has not started it."""
    for process in psutil.Process().parents():
        try:
            words = process.cmdline()[:4]
        except psutil.Error:
            continue
        names = [Path(word).name for word in words[:2]]
        if "dvc" in names or words[1:3] == ["-m", "dvc"]:
            return process
    return None
