"""The processes of a stack: each inherits CCLM_STACK, the folder of its stack, in its environment."""

import os
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from flows import processes

MARKER = "CCLM_STACK"
FLOW_SECONDS, CHILD_SECONDS = 60.0, 10.0  # a flow that is stopped reports to Prefect, its training writes a record


def members(folder: Path) -> list[psutil.Process]:
    """All living processes of the stack in `folder`, except this one, identified by pid and creation time."""
    marked = [
        process
        for process in psutil.process_iter(["environ", "ppid", "status"])
        if (process.info["environ"] or {}).get(MARKER) == str(folder) and process.pid != os.getpid()
    ]
    return [process for process in marked if process.info["status"] != psutil.STATUS_ZOMBIE]


def session_and_group(process: psutil.Process) -> tuple[int, int]:
    """Ids of the process's session and process group, 0 if it ended.

    All services are in supervisord's session, each with a group of its own. A flow has its own session, and so it
    outlives its worker.
    """
    try:
        return os.getsid(process.pid), os.getpgid(process.pid)
    except ProcessLookupError:
        return 0, 0


def end(found: Sequence[psutil.Process]) -> None:
    """Ends processes by SIGTERM, then SIGKILL: parents first, because a flow stops its stages itself and reports it."""
    pids = {process.pid for process in found}
    processes.end([process for process in found if process.info["ppid"] not in pids], FLOW_SECONDS)
    processes.end(list(found), CHILD_SECONDS)
