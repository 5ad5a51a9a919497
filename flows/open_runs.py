"""What has been opened and must be closed again, were the process to die: one small file each in `.cclm/open/`.

A run in MLflow or Prefect that was opened by a process which is then killed would stay RUNNING for ever. So its file
is written as it is opened and removed as it is closed. Whoever comes next closes what files of dead processes name,
without asking a server first: as long as there are none, it costs one look into a folder.
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
from flows.paths import state


@dataclass(frozen=True)
class OpenRun:
    """Something that a process must close.

    Attributes:
        kind: `driver`, a process that drives the pipeline; `mlflow` or `prefect`, a run there.
        id: the run's, or the driver's process.
        where: the server or store that has it; "" for a driver.
        process: who closes it, as `flows.processes` names it.
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


def opened(root: Path, kind: str, run_id: str, where: str, process: str | None = None) -> None:
    """Notes that `process`, else this one, has opened a run."""
    write_json(_file(root, kind, run_id), asdict(OpenRun(kind, run_id, where, process or processes.own(), time.time())))


def closed(root: Path, kind: str, run_id: str) -> None:
    """Notes that a run was closed."""
    _file(root, kind, run_id).unlink(missing_ok=True)


def open_runs(root: Path) -> list[OpenRun]:
    """All that is noted as open, the oldest first."""
    found = []
    for path in state(root, "open").glob("*.json"):
        try:
            found.append(OpenRun(**json.loads(path.read_text(encoding="utf-8"))))
        except FileNotFoundError:  # closed just now
            continue
    return sorted(found, key=lambda one: one.opened)


def abandoned(root: Path, *kinds: str) -> list[OpenRun]:
    """What dead processes have left open, of these kinds."""
    return [one for one in open_runs(root) if one.kind in kinds and one.abandoned]


@contextmanager
def driving(root: Path) -> Iterator[str]:
    """Marks this process as one that drives the pipeline, and all that it starts as belonging to it.

    Within a process that drives already, it is the same run.
    """
    name = processes.own()
    before = os.environ.get(processes.DRIVER_VARIABLE)
    if before == name:
        yield name
        return
    os.environ[processes.DRIVER_VARIABLE] = name
    opened(root, "driver", name, "")
    try:
        yield name
    finally:
        closed(root, "driver", name)
        os.environ.pop(processes.DRIVER_VARIABLE)
        os.environ.update({processes.DRIVER_VARIABLE: before} if before else {})


def _file(root: Path, kind: str, run_id: str) -> Path:
    return state(root, "open") / f"{kind}-{run_id.replace('/', '_')}.json"
