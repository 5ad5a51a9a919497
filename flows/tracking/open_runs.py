"""Records of open runs in MLflow and Prefect, one small file each in `.cclm/open/`.

If a process is killed, the runs that it has opened would stay RUNNING forever. So each run is recorded when it is
opened, and the record is deleted when the run is closed. The next pipeline run closes the runs whose process has ended.
If there are no records, this costs only listing a folder.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cclm_core.runtime.artifacts import write_json
from flows import processes
from flows.project import Project
from flows.tracking.records import DAMAGED, read_dataclass, read_record


@dataclass(frozen=True)
class OpenRun:
    """A run that a process must close.

    Attributes:
        kind: `mlflow` or `prefect` for a run there; `driver` for a process that drives the pipeline.
        id: ID of the run, or name of the driver's process.
        where: URI of the server or store with the run; "" for a driver.
        process: the process that must close it, named as in `flows.processes`.
        opened: when it was opened, in Unix seconds.
    """

    kind: str
    id: str
    where: str
    process: str
    opened: float

    @property
    def abandoned(self) -> bool:
        """Whether its process has ended without closing it."""
        return processes.is_gone(self.process)


def record_opened(project: Project, kind: str, run_id: str, where: str, process: str | None = None) -> None:
    """Records that `process` (default: this one) has opened a run. See `OpenRun` for the arguments."""
    run = OpenRun(kind, run_id, where, process or processes.own_name(), time.time())
    write_json(_file(project, kind, run_id), asdict(run))


def record_closed(project: Project, kind: str, run_id: str) -> None:
    """Deletes the record of a run that was closed."""
    _file(project, kind, run_id).unlink(missing_ok=True)


def open_runs(project: Project) -> list[OpenRun]:
    """All recorded open runs, oldest first. Damaged records are left out, see `damaged_records`."""
    runs = []
    for path in project.state("open").glob("*.json"):
        run = read_dataclass(path, OpenRun)
        if isinstance(run, OpenRun):
            runs.append(run)
    return sorted(runs, key=lambda run: run.opened)


def damaged_records(project: Project) -> list[Path]:
    """Files of `.cclm/open` that cannot be read. They name no run, so nothing can be closed with them."""
    return [path for path in sorted(project.state("open").glob("*.json")) if read_dataclass(path, OpenRun) == DAMAGED]


def abandoned(project: Project, *kinds: str) -> list[OpenRun]:
    """The open runs of the given kinds whose process has ended, oldest first."""
    return [run for run in open_runs(project) if run.kind in kinds and run.abandoned]


def running_processes(project: Project) -> list[str]:
    """The other processes that are running this pipeline or one of its stages: `process 4711 (base)`, for messages."""
    own = processes.own_name()
    owners = [run.process for run in open_runs(project) if run.process != own and not run.abandoned]
    messages = [f"process {processes.split(owner)[1]}" for owner in owners]
    holder = processes.lock_holder(project.run_lock)
    if holder is not None and not processes.is_current(holder):
        messages.append(f"process {holder}")
    for path in project.state("stages").glob("*.json"):
        record = read_record(project, path.stem)
        if record is not None and record.running:
            messages.append(f"process {processes.split(record.process)[1]} ({record.stage})")
    return list(dict.fromkeys(messages))


@contextmanager
def driving(project: Project) -> Iterator[str]:
    """Marks this process as the driver of a pipeline run for the block, and its children as part of that run.

    Has no effect if this process is already a driver.

    Yields:
        The name of this process.
    """
    name = processes.own_name()
    outer = os.environ.get(processes.DRIVER_VARIABLE)
    if outer == name:
        yield name
        return
    os.environ[processes.DRIVER_VARIABLE] = name
    record_opened(project, "driver", name, "")
    try:
        yield name
    finally:
        record_closed(project, "driver", name)
        os.environ.pop(processes.DRIVER_VARIABLE)
        os.environ.update({processes.DRIVER_VARIABLE: outer} if outer else {})


def _file(project: Project, kind: str, run_id: str) -> Path:
    return project.state("open") / f"{kind}-{run_id.replace('/', '_')}.json"
