"""Undocumented marks of Prefect's processes, on which this project relies. Checked for Prefect `CHECKED`.

| function | relies on |
|---|---|
| `is_temporary_server` | the application's name on the command line, `PREFECT__SERVER_EPHEMERAL=1` |
| `local_pid` | `infrastructure_pid`: `HOST:PID` of a process worker, `PID` of a served flow |
| `infra.stack.worker` | `prefect.workers.server._build_healthcheck_server` |

`tests/flows/test_private.py` fails with any other version of Prefect. Then run `tests/flows/test_doctor.py` and the
fault trials of killed flows and servers, and widen `CHECKED`.
"""

import os
import urllib.parse
from typing import Any

import psutil  # type: ignore[import-untyped]

from flows import processes

CHECKED = ">=3.8,<3.9"
APPLICATION = "prefect.server.api.server:create_app"


def is_temporary_server(process: psutil.Process) -> bool:
    """Whether a process is a server that a flow run started for itself.

    Raises:
        psutil.Error: the process has ended, or belongs to another user.
    """
    return (
        APPLICATION in process.cmdline() and processes.environment_variable(process, "PREFECT__SERVER_EPHEMERAL") == "1"
    )


def local_pid(run: Any, server: str) -> int | None:
    """The pid of a flow run on this machine; None if it is unknown or on another machine.

    Args:
        run: the flow run, from Prefect's API.
        server: the address of Prefect's API. If `infrastructure_pid` names no host, a run of a local server is local.
    """
    host, _, pid = str(run.infrastructure_pid or "").rpartition(":")
    is_local = host == os.uname().nodename if host else _is_loopback(server)
    return int(pid) if pid.isdigit() and is_local else None


def _is_loopback(url: str) -> bool:
    return urllib.parse.urlparse(url).hostname in ("127.0.0.1", "localhost", "::1")
