"""The pipeline's run in MLflow, above the runs of its stages: one for each run of the flow, or of `dvc repro`.

Bare DVC tells no one when it begins or ends, so the stages that it starts agree on a parent: the first one makes it,
keyed by the DVC process that started them all, and each sets its state as it starts and ends. What DVC writes to
dvc.lock after the last stage reaches the parent with `cclm promote`.
"""

import json
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from filelock import FileLock

from cclm_core.runtime.artifacts import write_json
from flows import processes
from flows.project import Project
from flows.tracking.client import PROCESS_TAG, Tracking, guarded, log_pipeline_files
from flows.tracking.open_runs import opened

DRIVER_TAG = "cclm.driver"


def create_parent(tracking: Tracking, project: Project, driver: str, process: str | None = None) -> str:
    """Starts the run of a pipeline driven by `driver`; returns its id. `process` (default: this one) must end it."""
    commit, _ = project.git_revision()
    name = f"pipeline-{commit[:8] or time.strftime('%Y%m%d-%H%M%S')}"
    tags = {DRIVER_TAG: driver, "cclm.kind": "pipeline", PROCESS_TAG: process or processes.own()}
    run_id = tracking.create_run(name, tags)
    log_pipeline_files(tracking, project, run_id)
    return run_id


def newest_parent(tracking: Tracking) -> str | None:
    """The pipeline run that started last; None if there is none yet."""
    with guarded():
        runs = tracking.client.search_runs(
            [tracking.experiment_id], f"tags.`{DRIVER_TAG}` != ''", max_results=1, order_by=["start_time DESC"]
        )
    return str(runs[0].info.run_id) if runs else None


class DvcParent:
    """The parent that all stages of one DVC process share."""

    def __init__(self, tracking: Tracking, project: Project, process: psutil.Process | None) -> None:
        self.tracking = tracking
        self.project = project
        self.process = processes.name_of(process.pid) if process else None
        key = f"{process.pid}-{process.create_time():.2f}" if process else f"alone-{time.time_ns()}"
        self.file = project.state("parents") / f"{key}.json"
        self.lock = FileLock(project.state("locks") / "parents.lock")

    def start(self) -> str:
        """The parent's id; it is RUNNING."""
        with self.lock:
            if self.file.is_file():
                run_id = str(json.loads(self.file.read_text())["run_id"])
                self.tracking.set_status(run_id, "RUNNING")
                opened(self.project, "mlflow", run_id, self.tracking.uri, self.process)
                log_pipeline_files(self.tracking, self.project, run_id)
            else:
                run_id = create_parent(self.tracking, self.project, "dvc", self.process)
                self._forget_old()
                write_json(self.file, {"run_id": run_id, "worst": "FINISHED"})
        return run_id

    def end(self, status: str) -> None:
        """Sets the parent to the worst that any stage came to, as long as no other stage starts."""
        with self.lock:
            values = json.loads(self.file.read_text())
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
    """The `dvc` process that started this one, at any level; None if it was not started by DVC."""
    for process in psutil.Process().parents():
        try:
            words = process.cmdline()[:4]
        except psutil.Error:
            continue
        names = [Path(word).name for word in words[:2]]
        if "dvc" in names or words[1:3] == ["-m", "dvc"]:
            return process
    return None
