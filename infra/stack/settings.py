"""The environment of the stack's services: settings of `infra/stack.conf`, addresses, passwords generated once.

```
.cclm/stack/
├── artifacts/         MLflow's files
├── client.env         while the stack is up: supervisord's process, and what clients need; lines NAME=value
├── logs/              output of each service, of supervisord and of the keeper
├── mlflow-users.ini   MLflow's settings for authentication
├── postgresql/        our own cluster, unless root started the stack
├── secrets.env        CCLM_DATABASE_URL and passwords; lines NAME=value
└── supervisord.conf, supervisord.pid, supervisord.sock
```
"""

import os
import secrets
import socket
import sys
from collections.abc import Mapping
from configparser import RawConfigParser
from contextlib import ExitStack
from pathlib import Path

from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import atomic_write
from flows import environment
from flows.project import Project
from infra.stack.database import USER, choose
from infra.stack.processes import MARKER

SECRETS, CONF = "secrets.env", "supervisord.conf"
PASSWORDS = ("PREFECT_PASSWORD", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "POSTGRESQL_PASSWORD")
MLFLOW_USERS = """[mlflow]
default_permission = READ
database_uri = {uri}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


def read_conf(path: Path) -> RawConfigParser:
    """Reads a configuration of supervisord and leaves `%` to it.

    Raises:
        ConfigError: the file is missing.
    """
    conf = RawConfigParser(interpolation=None)
    conf.optionxform = str  # type: ignore[method-assign, assignment]  # keeps upper case
    if not conf.read(path, encoding="utf-8"):
        raise ConfigError(f"{path} not found. Run in the folder of the project.")
    return conf


def write_conf(conf: RawConfigParser, kinds: str, path: Path) -> None:
    """Writes what supervisord and the keeper read: programs with their defaults, without those for other databases."""
    for section in [name for name in conf.sections() if name.startswith("program:")]:
        if conf[section].get("cclm_only", "") in ("", *kinds.split()):
            conf[section] = {**conf["program-default"], **conf[section]}
        else:
            conf.remove_section(section)
    with path.open("w", encoding="utf-8") as stream:
        conf.write(stream)


def service_environment(project: Project, folder: Path) -> dict[str, str]:
    """The environment of supervisord and its services; creates what it refers to: passwords, configuration, cluster.

    Args:
        project: the project whose servers these are.
        folder: of the stack.

    Raises:
        ConfigError: a setting is invalid, a port is in use, or PostgreSQL is not installed.
    """
    conf = read_conf(project.root / "infra/stack.conf")
    settings = {name: os.environ.get(name, value) for name, value in conf["settings"].items()}
    path = folder / SECRETS
    kept = dict(line.split("=", 1) for line in path.read_text().splitlines()) if path.is_file() else {}
    kept = {"CCLM_DATABASE_URL": ""} | {name: secrets.token_urlsafe(24) for name in PASSWORDS} | kept
    kept["CCLM_DATABASE_URL"] = os.environ.get("CCLM_DATABASE_URL", kept["CCLM_DATABASE_URL"])
    database = choose(folder, kept["CCLM_DATABASE_URL"], kept["POSTGRESQL_PASSWORD"], settings["CCLM_POSTGRESQL_PORT"])
    _check_ports({name: port for name, port in settings.items() if name.endswith("_PORT")})
    write_private(path, kept)
    database.create_cluster(kept["POSTGRESQL_PASSWORD"])
    (folder / "logs").mkdir(exist_ok=True)
    write_conf(conf, database.kinds, folder / CONF)
    # configparser reads %% as %.
    users = MLFLOW_USERS.format(uri=database.urls["mlflow_users"].replace("%", "%%"))
    write_private(folder / "mlflow-users.ini", users)
    fixed = {name: os.environ.get(name, value) for name, value in environment.defaults(project).items()}
    del fixed["MLFLOW_CONFIGURE_LOGGING"]  # it is off for clients; a server needs its log
    return {
        **{name: value for name, value in os.environ.items() if name != "CCLM_DATABASE_URL"},
        **fixed,
        **settings,
        **database.variables(),
        MARKER: str(folder),
        "CCLM_PYTHON": sys.executable,
        "PATH": environment.for_children()["PATH"],
        "PREFECT_API_URL": f"http://127.0.0.1:{settings['CCLM_PREFECT_PORT']}/api",
        "PREFECT_API_AUTH_STRING": f"{USER}:{kept['PREFECT_PASSWORD']}",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{settings['CCLM_MLFLOW_PORT']}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": kept["MLFLOW_TRACKING_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": kept["MLFLOW_FLASK_SERVER_SECRET_KEY"],
    }


def write_private(path: Path, content: str | Mapping[str, str]) -> None:
    """Replaces a file with one that nobody else can read: a text, or lines NAME=value."""
    lines = content if isinstance(content, str) else "".join(f"{name}={value}\n" for name, value in content.items())
    atomic_write(path, lines)
    path.chmod(0o600)


def _check_ports(ports: Mapping[str, str]) -> None:
    with ExitStack() as stack:  # all are held at once, so that two equal ports are found, too
        for name, port in ports.items():
            probe = stack.enter_context(socket.socket())
            try:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", int(port)))
                probe.listen()  # a second bind fails only while the first socket listens
            except (OSError, OverflowError, ValueError) as error:
                raise ConfigError(f"{name}={port} must be a free port: {error}. Try `{name}=PORT make up`.") from None
