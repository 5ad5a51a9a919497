"""Everything that relies on how Prefect marks its processes, which is not documented. Checked for Prefect `CHECKED`.

| function | relies on |
|---|---|
| `is_temporary_server` | the application's name on the command line, `PREFECT__SERVER_EPHEMERAL=1` |
| `local_pid` | `infrastructure_pid`: `HOST:PID` of a process worker, `PID` of a served flow |

`tests/flows/test_private.py` fails when another version of Prefect is installed. Then run `tests/flows/test_doctor.py`
and the fault trials of killed flows and servers with it, and widen `CHECKED`.
"""

import os
import urllib.parse
from typing import Any

import psutil  # type: ignore[import-untyped]

from flows import processes

CHECKED = ">=3.8,<3.9"
APPLICATION = "prefect.server.api.server:create_app"


def is_temporary_server(process: psutil.Process) -> bool:
    """Whether a process is a server that a run of a flow has started for itself.

    Raises:
        psutil.Error: the process has ended, or belongs to another user.
    """
    return (
        APPLICATION in process.cmdline() and processes.environment_variable(process, "PREFECT__SERVER_EPHEMERAL") == "1"
    )


def local_pid(run: Any, server: str) -> int | None:
    """The process on this machine that runs a flow run; None if it is unknown or on another machine.

    Args:
        server: the address of Prefect's API. Without a host name, the process is known to be local only if the server
            is.
    """
    host, _, pid = str(run.infrastructure_pid or "").rpartition(":")
    local = host == os.uname().nodename if host else _is_loopback(server)
    return int(pid) if pid.isdigit() and local else None


def _is_loopback(url: str) -> bool:
    return urllib.parse.urlparse(url).hostname in ("127.0.0.1", "localhost", "::1")
