"""The settings under which Prefect, DVC and MLflow run here, each a default that the user's environment overrides.

While the project's stack is up (`make up`), its servers are the default; otherwise each tool's embedded one.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from flows.processes import name_of, split
from flows.project import Project

# Written by the stack when it is up: its supervisord (`host:pid:start`), then what its clients need; lines NAME=value.
CLIENT_FILE, SUPERVISOR = "client.env", "CCLM_SUPERVISORD"

DEFAULTS = {
    # Nothing is told to anyone.
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A model is code and safetensors; a pickle in its place is refused.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # An unreachable tracking server is told within seconds; MLflow's own defaults retry for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    # Standard output is this program's: with --json a document, which MLflow's addresses of runs would spoil.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Prefect's temporary server needs more than its 20 s on a loaded machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # A server that keeps leases in memory forgets them when it restarts, and their device slots stay taken for ever.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


# Whoever sets one of these has named a server; what the stack says of the same tool is left alone then.
NAMED_BY_USER = {"PREFECT_": ("PREFECT_API_URL", "PREFECT_PROFILE"), "MLFLOW_": ("MLFLOW_TRACKING_URI",)}


def apply(project: Project) -> None:
    """Puts the defaults into this process's environment; call it before Prefect or MLflow is imported."""
    for name, value in (of_stack(project) | defaults(project)).items():
        os.environ.setdefault(name, value)


def defaults(project: Project) -> dict[str, str]:
    """The defaults of this project."""
    return DEFAULTS | {
        "PREFECT_HOME": str(project.state() / "prefect"),
        "DVC_SITE_CACHE_DIR": str(project.state("dvc")),
    }


def of_stack(project: Project) -> dict[str, str]:
    """What a client of the project's stack needs while it is up, for those tools whose server the user left open."""
    named = tuple(tool for tool, names in NAMED_BY_USER.items() if any(name in os.environ for name in names))
    settings = stack_settings(project.root / ".cclm" / "stack")
    return {name: value for name, value in settings.items() if not name.startswith(named)}


def stack_settings(folder: Path) -> dict[str, str]:
    """The addresses and credentials of the stack in `folder`; empty if its supervisord does not run on this machine."""
    try:
        lines = (folder / CLIENT_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    settings = dict(line.split("=", 1) for line in lines)
    supervisord = settings.pop(SUPERVISOR)
    return settings if name_of(split(supervisord)[1]) == supervisord else {}


def for_children(extra: dict[str, str] | None = None, without: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a stage: this process's, with this interpreter's folder first in PATH, so that `python` and
    `dvc` mean those of this installation whether or not it is activated.
    """
    environment = {name: value for name, value in os.environ.items() if name not in set(without)}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return environment | (extra or {})


def is_off(name: str) -> bool:
    """Whether a setting that is on by default was switched off: off, 0, false or no."""
    return os.environ.get(name, "on").lower() in ("off", "0", "false", "no")
