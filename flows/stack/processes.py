"""The processes of a stack: how one is started, and how what is left of it is found and ended."""

import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from cclm_core.runtime.errors import ConfigError
from flows.stack.config import ServiceConfig
from flows.stack.state import MARKER

POLL_SECONDS = 0.1


def command_of(config: ServiceConfig) -> list[str]:
    """The command, told by the kernel to stop when the supervisor dies, were it by SIGKILL.

    By util-linux's `setpriv`, since code of ours between fork and exec may deadlock beside threads; where there is none
    the next start ends what was left.
    """
    setpriv = shutil.which("setpriv")
    return [
        *([setpriv, "--pdeathsig", config.stop_signal.removeprefix("SIG"), "--"] if setpriv else []),
        *config.command,
    ]


def identity(user: str) -> dict[str, Any]:
    """The arguments of Popen that run a process as `user`; none when it is empty.

    Raises:
        ConfigError: there is no such user.
    """
    if not user:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(f"user must name a user of this machine, got {user!r}.") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def members(folder: Path) -> list[psutil.Process]:
    """All processes of the stack in `folder`, by the mark in their environment; none of them is this one."""
    found, mark = [], str(folder)
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARKER) == mark:
                found.append(process)
        except (psutil.Error, OSError):  # it has gone, or is not ours
            continue
    return found


def in_session(processes: Iterable[psutil.Process], session: int) -> list[psutil.Process]:
    """Those that a service left in its session: each service leads one of its own."""
    return [process for process in processes if _session(process.pid) == session]


def end(processes: Iterable[psutil.Process], seconds: float) -> list[int]:
    """Ends processes: SIGTERM, after `seconds` SIGKILL; returns the ids of those that had to be killed. Blocks.

    A process is told when its parent has gone: a flow stops its stages by itself, and says so.
    """
    waiting, told = list(processes), set[int]()
    deadline = time.monotonic() + seconds
    while (waiting := [process for process in waiting if _alive(process)]) and time.monotonic() < deadline:
        pids = {process.pid for process in waiting}
        for process in waiting:
            if process.pid not in told and _parent(process) not in pids:
                told.add(process.pid)
                _quietly(process.terminate)
        time.sleep(POLL_SECONDS)
    for process in waiting:
        _quietly(process.kill)
    psutil.wait_procs(waiting, timeout=5)
    return [process.pid for process in waiting]


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _parent(process: psutil.Process) -> int | None:
    try:
        return int(process.ppid())
    except psutil.Error:
        return None


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _quietly(action: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        action()
