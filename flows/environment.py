"""Default settings for Prefect, DVC and MLflow. Your environment variables override them.

While the project's stack of servers is up (`make up`), its servers are the default; otherwise each tool runs embedded.
"""

import os
import secrets
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from cclm_core.runtime.errors import ConfigError
from flows.processes import name_of, split
from flows.project import Project

# The stack writes this file when it starts, in lines NAME=value: the name of its supervisord process
# (`host:pid:start`), then the settings of its clients.
CLIENT_FILE, SUPERVISOR = "client.env", "CCLM_SUPERVISORD"

DEFAULTS = {
    # No telemetry.
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Models consist of code and safetensors, so no pickle is ever loaded.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # Report an unreachable tracking server within seconds. MLflow's defaults retry for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    # MLflow would print URLs of runs to standard output, which has to be valid JSON with --json.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # The default of 20 s is too short for Prefect's temporary server on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # With leases in memory (the default), a restarted server forgets them, and their device slots are never released.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}

# An origin that no page can have: Prefect takes an empty list of allowed origins for the default, which is all.
NO_ORIGIN = "https://no-origin.invalid"

# If one of these variables is set, you have chosen a server, and the stack's settings for that tool are ignored.
USER_SERVERS = {"PREFECT_": ("PREFECT_API_URL", "PREFECT_PROFILE"), "MLFLOW_": ("MLFLOW_TRACKING_URI",)}


def enter_project() -> Project:
    """Finds the project of a command, changes to its folder, and applies its environment.

    Raises:
        ConfigError: there is no project here; see `Project.find`.
    """
    project = Project.find()
    os.chdir(project.root)
    apply(project)
    return project


def apply(project: Project) -> None:
    """Adds the defaults to this process's environment. Call it before importing Prefect or MLflow."""
    for name, value in (stack_defaults(project) | defaults(project)).items():
        os.environ.setdefault(name, value)
    # Prefect reads the variables when it is imported; later, its server would get a password that its client lacks.
    if "prefect" not in sys.modules and not _has_prefect_server():
        for name, value in _temporary_server_settings().items():
            os.environ.setdefault(name, value)


def _temporary_server_settings() -> dict[str, str]:
    """Settings with which the temporary server of a run, which Prefect starts, asks for credentials.

    Its clients are this process and its children, which inherit the variables. The password is new in each run.
    """
    password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING") or os.environ.get("PREFECT_API_AUTH_STRING")
    password = password or f"cclm:{secrets.token_urlsafe(32)}"
    return {
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_API_AUTH_STRING": password,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": NO_ORIGIN,
        "PREFECT_SERVER_UI_ENABLED": "false",
    }


def _has_prefect_server() -> bool:
    """Whether a Prefect server is configured, by `PREFECT_API_URL` or in the active profile."""
    if "PREFECT_API_URL" in os.environ:
        return True
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    try:
        profiles = tomllib.loads(Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").read_text())
        active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
        return "PREFECT_API_URL" in profiles.get("profiles", {}).get(active, {})
    except (OSError, ValueError, AttributeError, TypeError):  # Prefect itself complains about a damaged file
        return False


def defaults(project: Project) -> dict[str, str]:
    """The default environment variables for this project, without those of its stack."""
    home = project.state() / "prefect"
    # DVC must be able to write to its site cache. A read-only project gets a temporary one.
    site_cache = project.state("read-only", "dvc") if project.read_only else project.state("dvc")
    sqlite_uri(home / "prefect.db")  # refuses a path that Prefect cannot use
    return DEFAULTS | {"PREFECT_HOME": str(home), "DVC_SITE_CACHE_DIR": str(site_cache)}


def sqlite_uri(path: Path) -> str:
    """The URI of a SQLite database for SQLAlchemy.

    Raises:
        ConfigError: the path has a `?`, where the options of a URI begin: MLflow's and Prefect's databases would be
            other files, outside the project.

    >>> sqlite_uri(Path("/a b/mlflow.db"))
    'sqlite:////a b/mlflow.db'
    """
    if "?" in str(path):
        raise ConfigError(f"the path of the project must not contain a question mark, got {path}. Rename the folder.")
    return f"sqlite:///{path}"


def stack_defaults(project: Project) -> dict[str, str]:
    """The client settings of the project's running stack, except for tools whose server you have set yourself."""
    user_set = tuple(tool for tool, names in USER_SERVERS.items() if any(name in os.environ for name in names))
    settings = stack_settings(project.root / ".cclm" / "stack")
    return {name: value for name, value in settings.items() if not name.startswith(user_set)}


def stack_settings(folder: Path) -> dict[str, str]:
    """The addresses and credentials of the stack in `folder`; empty unless its supervisord runs on this machine."""
    try:
        lines = (folder / CLIENT_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    settings = dict(line.split("=", 1) for line in lines)
    supervisord = settings.pop(SUPERVISOR)
    return settings if name_of(split(supervisord)[1]) == supervisord else {}


def for_children(extra: dict[str, str] | None = None, without: Iterable[str] = ()) -> dict[str, str]:
    """The environment for a child process.

    PATH starts with the folder of this interpreter, so that `python` and `dvc` are those of this installation even if
    its virtual environment is not activated.

    Args:
        extra: variables to set in addition to those of this process.
        without: names of variables to leave out.
    """
    environment = {name: value for name, value in os.environ.items() if name not in set(without)}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return environment | (extra or {})


def is_off(name: str) -> bool:
    """Whether an environment variable disables a setting that is on by default: `off`, `0`, `false` or `no`."""
    return os.environ.get(name, "on").lower() in ("off", "0", "false", "no")
