"""Prefect's workers with a health server that asks for credentials.

```
python -m infra.stack.worker start ARGUMENTS   prefect worker start --with-healthcheck ARGUMENTS
python -m infra.stack.worker health URL        exit code 0 if the worker at URL is healthy
```

The credentials are those of Prefect's API, `PREFECT_API_AUTH_STRING=USER:PASSWORD`. Prefect's own health server has
none. This relies on `prefect.workers.server._build_healthcheck_server`; `flows/recovery/prefect_private.py` has the
versions for which that was checked.
"""

import base64
import os
import runpy
import sys
import urllib.request
from collections.abc import Callable
from typing import Any, cast

from flows.servers.guard import App, Guard

AUTH_VARIABLE = "PREFECT_API_AUTH_STRING"
HEALTH_SECONDS = 5.0
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy


def guard_health_server(credentials: str) -> None:
    """Puts `Guard` in front of the health server that a worker in this process starts.

    Args:
        credentials: USER:PASSWORD.

    Raises:
        ValueError: the password is empty.
    """
    from prefect.workers import server

    build = server._build_healthcheck_server
    password = credentials.partition(":")[2]
    if not password:
        raise ValueError(f"{AUTH_VARIABLE} must be USER:PASSWORD.")

    def build_guarded(is_healthy: Callable[[], bool], log_level: str = "error") -> Any:
        """The health server, behind a guard."""
        made = build(is_healthy, log_level)
        made.config.app = Guard(cast(App, made.config.app), password)
        return made

    server._build_healthcheck_server = build_guarded


def request(url: str, credentials: str, seconds: float = HEALTH_SECONDS) -> None:
    """Sends a GET request with credentials, USER:PASSWORD; "" sends none.

    Raises:
        OSError: no answer, or a status of 400 or above.
    """
    asked = urllib.request.Request(url)
    if credentials:
        asked.add_header("Authorization", f"Basic {base64.b64encode(credentials.encode()).decode('ascii')}")
    _opener.open(asked, timeout=seconds).close()


def main(arguments: list[str]) -> int:
    """Runs one of the two commands; returns the exit code."""
    credentials = os.environ.get(AUTH_VARIABLE, "")
    match arguments:
        case ["start", *rest]:
            try:
                guard_health_server(credentials)
            except ValueError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            sys.argv = ["prefect", "--no-prompt", "worker", "start", "--with-healthcheck", *rest]
            runpy.run_module("prefect", run_name="__main__")
        case ["health", url]:
            try:
                request(url, credentials)
            except OSError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
