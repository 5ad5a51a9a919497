"""What the supervisor tells of the stack: `.cclm/stack/state.json`, and a lock that it holds as long as it lives.

```
.cclm/stack/
├── artifacts/         MLflow's files
├── environment        for clients: addresses, user names and passwords; lines NAME=value
├── logs/              what each service printed, and `supervisor.log`
├── mlflow-users.ini   MLflow's settings for its user names
├── plan.json          the services as they were last started, with every setting filled in
├── postgresql         the cluster: a folder, or under root a link to it
├── secrets            for servers: the database's password, MLflow's key; lines NAME=value
├── state.json         phase, services, process ids
└── supervisor.lock
```
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.errors import ConfigError

LOCK_SECONDS = 2.0  # whoever asks whether a supervisor lives holds the lock for a moment
LOCK, STATE, PLAN = "supervisor.lock", "state.json", "plan.json"
# In the environment of every process of a stack, and of what they start: the stack's folder.
MARKER = "CCLM_STACK"


@dataclass
class ServiceState:
    """What became of a service.

    Attributes:
        state: `waiting`, `starting`, `healthy`, `restarting`, `done` (it runs once), `failed`, `stopping`, `stopped`.
        pid: 0 when it does not run.
        since: Unix seconds of the last change of `state`.
        restarts: how often it was started again.
        message: why it is not healthy.
    """

    state: str = "waiting"
    pid: int = 0
    since: float = 0.0
    restarts: int = 0
    message: str = ""


@dataclass
class StackState:
    """What became of the stack.

    Attributes:
        phase: `down`, `starting`, `up`, `failed`, `stopping`.
        supervisor: its process id; 0 when it does not run.
    """

    phase: str = "down"
    supervisor: int = 0
    services: dict[str, ServiceState] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; the services as a list, in their order."""
        services = [{"name": name} | asdict(service) for name, service in self.services.items()]
        return {"phase": self.phase, "supervisor": self.supervisor, "services": services}


def folder_of(root: Path) -> Path:
    """Where a project keeps its stack; the folder need not exist."""
    return root / ".cclm" / "stack"


def running(folder: Path) -> bool:
    """Whether a supervisor lives. It holds a lock, which is freed when the last of its threads ends; a killed one is a
    zombie a moment before.
    """
    return _is_held(folder) and not _is_dying(folder) and _is_held(folder)


def supervisor(folder: Path) -> int:
    """The process id of the supervisor; 0 when none lives."""
    for _ in range(10):  # it has the lock a moment before its id is in it
        if not running(folder):
            return 0
        if (text := (folder / LOCK).read_text()).isdigit():
            return int(text)
        time.sleep(0.1)
    return 0


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds the stack's lock, with this process's id in it.

    Raises:
        ConfigError: another supervisor has it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise ConfigError(f"{folder} must have one supervisor; another one runs: see `cclm stack status`.")
            time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def write_state(folder: Path, state: StackState) -> None:
    """Tells the state."""
    write_json(folder / STATE, state.as_json())


def read_state(folder: Path) -> StackState:
    """The state as the supervisor told it last; `down` where none lives."""
    if not running(folder):
        return StackState()
    if not (folder / STATE).is_file():
        return StackState("starting")
    return last_state(folder)


def last_state(folder: Path) -> StackState:
    """The state as a supervisor told it last, be it dead."""
    values = read_json(folder / STATE)
    services = {service.pop("name"): ServiceState(**service) for service in values["services"]}
    return StackState(values["phase"], values["supervisor"], services)


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_dying(folder: Path) -> bool:
    text = (folder / LOCK).read_text()
    try:
        return text.isdigit() and psutil.Process(int(text)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it has gone just now, or another one has not written its number yet
        return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
