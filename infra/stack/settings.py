"""The environment of the stack's services: settings of `infra/stack.conf`, addresses, databases, passwords."""

import configparser
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
from infra.stack.cluster import USER, cluster_variables

MARKER = "CCLM_STACK"  # the folder of the stack, in the environment of all its processes
SECRETS, CONF = "secrets.env", "supervisord.conf"
PASSWORDS = ("PREFECT_PASSWORD", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY", "POSTGRESQL_PASSWORD")
MLFLOW_USERS = "[mlflow]\ndefault_permission = READ\nauth_cache_ttl_seconds = 60\ndatabase_uri = "


def service_environment(project: Project, folder: Path) -> dict[str, str]:
    """The environment of supervisord and its services. Also creates passwords, configurations and the cluster.

    Raises:
        ConfigError: a setting is invalid, a port is in use, or PostgreSQL is not installed.
    """
    conf = read_conf(project.root / "infra/stack.conf")
    if missing := {"settings", "program-default"} - set(conf.sections()):
        raise ConfigError(f"infra/stack.conf must have the sections {', '.join(sorted(missing))}. Restore the file.")
    settings = {name: os.environ.get(name, value) for name, value in conf["settings"].items()}
    _check_ports({name: port for name, port in settings.items() if name.endswith("_PORT")})
    path = folder / SECRETS
    stored = dict(line.split("=", 1) for line in path.read_text().splitlines()) if path.is_file() else {}
    stored = {"CCLM_DATABASE_URL": ""} | {name: secrets.token_urlsafe(24) for name in PASSWORDS} | stored
    url = stored["CCLM_DATABASE_URL"] = os.environ.get("CCLM_DATABASE_URL", stored["CCLM_DATABASE_URL"])
    own = f"postgresql://{USER}:{stored['POSTGRESQL_PASSWORD']}@127.0.0.1:{settings['CCLM_POSTGRESQL_PORT']}"
    databases = database_urls(url or own, folder)
    write_private(path, stored)
    users_url = databases["CCLM_MLFLOW_USERS_DATABASE"].replace("%", "%%")  # configparser reads %% as %
    write_private(folder / "mlflow-users.ini", f"{MLFLOW_USERS}{users_url}\n")
    cluster = {} if url else cluster_variables(folder, stored["POSTGRESQL_PASSWORD"])
    if url:
        conf.remove_section("program:postgresql")
    _write_conf(conf, folder, settings | cluster)
    return {
        **environment.defaults(project),
        **{name: value for name, value in os.environ.items() if name != "CCLM_DATABASE_URL"},
        **settings,
        **databases,
        **cluster,
        MARKER: str(folder),
        "CCLM_PYTHON": sys.executable,
        "PATH": environment.for_children()["PATH"],
        "PREFECT_API_URL": f"http://127.0.0.1:{settings['CCLM_PREFECT_PORT']}/api",
        "PREFECT_API_AUTH_STRING": f"{USER}:{stored['PREFECT_PASSWORD']}",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{settings['CCLM_MLFLOW_PORT']}",
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": stored["MLFLOW_TRACKING_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": stored["MLFLOW_FLASK_SERVER_SECRET_KEY"],
    }


def database_urls(url: str, folder: Path) -> dict[str, str]:
    """The addresses of the databases, on the PostgreSQL server `url`, or in `folder` if `url` is `sqlite`.

    Raises:
        ConfigError: `url` is neither.
    """
    scheme, _, server = url.rstrip("/").partition("://")
    if url != "sqlite" and (scheme not in ("postgresql", "postgres") or "/" in server):
        raise ConfigError(  # without the password
            "CCLM_DATABASE_URL must be `sqlite` or postgresql://USER:PASSWORD@HOST:PORT, without a database, got "
            f"{scheme}://...@{server.rpartition('@')[2]}."
        )
    start, end = (f"sqlite:///{folder}/", ".db") if url == "sqlite" else (f"postgresql://{server}/cclm_", "")
    prefect, mlflow, users = (f"{start}{name}{end}" for name in ("prefect", "mlflow", "mlflow_users"))
    return {
        "CCLM_DATABASES": "" if url == "sqlite" else f"{prefect} {mlflow} {users}",
        "CCLM_PREFECT_DATABASE": prefect.replace(":", "+aiosqlite:" if url == "sqlite" else "+asyncpg:", 1),
        "CCLM_MLFLOW_DATABASE": mlflow,
        "CCLM_MLFLOW_USERS_DATABASE": users,
    }


def read_conf(path: Path) -> RawConfigParser:
    """Reads a configuration of supervisord without expanding `%`.

    Raises:
        ConfigError: the file is missing or damaged, or has a section or a key twice.
    """
    conf = RawConfigParser(interpolation=None)
    conf.optionxform = str  # type: ignore[method-assign, assignment]  # keeps upper case
    try:
        if not conf.read(path, encoding="utf-8"):
            raise ConfigError(f"{path} not found. Run in the folder of the project.")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a valid configuration: {error}. Restore the file, e.g. from git.") from None
    return conf


def write_private(path: Path, content: str | Mapping[str, str]) -> None:
    """Replaces a file that only this user may read; `content` is text, or variables for lines NAME=value."""
    lines = content if isinstance(content, str) else "".join(f"{name}={value}\n" for name, value in content.items())
    atomic_write(path, lines)
    path.chmod(0o600)


def _write_conf(conf: RawConfigParser, folder: Path, variables: Mapping[str, str]) -> None:
    """Writes supervisord's configuration with program defaults, effective settings and expanded health checks."""
    conf["settings"] = {name: variables[name] for name in conf["settings"]}
    for section in [name for name in conf.sections() if name.startswith("program:")]:
        conf[section] = {**conf["program-default"], **conf[section]}
        conf[section]["cclm_health"] %= {f"ENV_{name}": value for name, value in variables.items()}
    (folder / "logs").mkdir(exist_ok=True)
    with (folder / CONF).open("w", encoding="utf-8") as stream:
        conf.write(stream)


def _check_ports(ports: Mapping[str, str]) -> None:
    with ExitStack() as stack:  # opens all of them at once, so that equal ports are found, too
        for name, port in ports.items():
            try:
                stack.enter_context(socket.create_server(("127.0.0.1", int(port))))
            except (OSError, OverflowError, ValueError) as error:
                raise ConfigError(f"{name}={port} must be a free port: {error}. Try `{name}=PORT make up`.") from None
