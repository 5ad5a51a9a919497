"""What a process has opened and must close again, so that a later process can: one small file each in `.cclm/open/`.

A run in MLflow or Prefect that was opened by a process which is then killed would stay RUNNING forever. So its file is
written when it is opened and removed when it is closed. The next run closes what files of dead processes name, without
asking a server first: if there are none, it costs one look into a folder.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cclm_core.runtime.artifacts import write_json
from flows import processes
from flows.project import Project
from flows.tracking.records import read_record


@dataclass(frozen=True)
class OpenRun:
    """Something that a process must close.

    Attributes:
        kind: `driver`, a process that drives the pipeline; `mlflow` or `prefect`, a run there.
        id: the run's, or the driver's process.
        where: the server or store that has it; "" for a driver.
        process: the process that must close it, as `flows.processes` names it.
        opened: Unix seconds.
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


def opened(project: Project, kind: str, run_id: str, where: str, process: str | None = None) -> None:
    """Records that `process` (default: this one) has opened a run."""
    note = OpenRun(kind, run_id, where, process or processes.own(), time.time())
    write_json(_file(project, kind, run_id), asdict(note))


def closed(project: Project, kind: str, run_id: str) -> None:
    """Records that a run was closed."""
    _file(project, kind, run_id).unlink(missing_ok=True)


def open_runs(project: Project) -> list[OpenRun]:
    """All that is recorded as open, the oldest first."""
    notes = []
    for path in project.state("open").glob("*.json"):
        try:
            notes.append(OpenRun(**json.loads(path.read_text(encoding="utf-8"))))
        except FileNotFoundError:  # closed just now
            continue
    return sorted(notes, key=lambda note: note.opened)


def abandoned(project: Project, *kinds: str) -> list[OpenRun]:
    """What dead processes have left open, of these kinds."""
    return [note for note in open_runs(project) if note.kind in kinds and note.abandoned]


def working(project: Project) -> list[str]:
    """The other processes that are running this pipeline or one of its stages now, for messages."""
    own = processes.own()
    notes = [note.process for note in open_runs(project) if note.process != own and not note.abandoned]
    messages = [f"process {processes.split(process)[1]}" for process in notes]
    locked = processes.holder(project.run_lock)
    if locked is not None and not processes.is_own(locked):
        messages.append(f"process {locked}")
    for path in project.state("stages").glob("*.json"):
        record = read_record(project, path.stem)
        if record is not None and record.running:
            messages.append(f"process {processes.split(record.process)[1]} ({record.stage})")
    return list(dict.fromkeys(messages))


@contextmanager
def driving(project: Project) -> Iterator[str]:
    """Marks this process as one that drives the pipeline, and all processes that it starts as belonging to it.

    Inside a process that is already driving, it is the same run.
    """
    name = processes.own()
    before = os.environ.get(processes.DRIVER_VARIABLE)
    if before == name:
        yield name
        return
    os.environ[processes.DRIVER_VARIABLE] = name
    opened(project, "driver", name, "")
    try:
        yield name
    finally:
        closed(project, "driver", name)
        os.environ.pop(processes.DRIVER_VARIABLE)
        os.environ.update({processes.DRIVER_VARIABLE: before} if before else {})


def _file(project: Project, kind: str, run_id: str) -> Path:
    return project.state("open") / f"{kind}-{run_id.replace('/', '_')}.json"
