"""Up, down and status of a project's stack: what `cclm stack` does."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.errors import CclmError, ConfigError
from flows import environment
from flows.project import Project
from flows.stack.config import StackConfig
from flows.stack.credentials import ENVIRONMENT as CLIENTS
from flows.stack.credentials import SECRETS, client_settings, read_settings, server_secrets, write_settings
from flows.stack.database import Databases, choose, prepare, set_password
from flows.stack.logs import tail
from flows.stack.processes import end, members
from flows.stack.state import PLAN, STATE, StackState, last_state, read_state, running, supervisor

PROCESS_FILE = Path("infra/stack.yaml")
POLL_SECONDS = 0.3
SHOWN_LINES = 15
DOWN_SECONDS = 600.0  # more than all services and their flows together may take to stop

AUTH_FILE = """[mlflow]
default_permission = READ
database_uri = {uri}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


class StackError(CclmError):
    """A service of the stack did not start, or did not stop."""


def make_plan(root: Path, say: Callable[[str], None]) -> Path:
    """Writes what the supervisor is to run, with all that it needs: credentials, database, settings.

    Raises:
        ConfigError: infra/stack.yaml or a setting is wrong, a port is taken, or there is no PostgreSQL.
    """
    folder = Project(root).state("stack")
    config = StackConfig.read(root / PROCESS_FILE)
    fresh = "CCLM_POSTGRESQL_PASSWORD" not in read_settings(folder / SECRETS)
    secret = server_secrets(folder, os.environ.get("CCLM_DATABASE_URL"))
    password = secret["CCLM_POSTGRESQL_PASSWORD"]
    chosen = choose(folder, secret["CCLM_DATABASE_URL"], password, config.port("CCLM_POSTGRESQL_PORT"))
    end(members(folder), 30.0)  # of a supervisor that was killed
    conditions = {chosen.kind} | ({"postgresql"} if chosen.kind != "sqlite" else set())
    clients = client_settings(folder, config.port("CCLM_PREFECT_PORT"), config.port("CCLM_MLFLOW_PORT"))
    filled = config.rendered(_values(folder, chosen, clients, secret), conditions)
    _check_ports(filled)
    made_before = (Path(chosen.data) / "PG_VERSION").is_file()
    if word := prepare(folder, chosen, password):
        say(word)
    if chosen.kind == "own_database" and made_before and fresh:
        set_password(chosen, password)
    settled = {name: os.environ.get(name, value) for name, value in environment.defaults(root).items()}
    settled.pop("MLFLOW_CONFIGURE_LOGGING")  # what a server has to say is wanted in its log
    plan = {
        "services": [(name, service.canonical()) for name, service in filled.services.items()],
        "postgresql": chosen.for_programs(),
        "environment": settled | clients | {"PATH": environment.for_children()["PATH"]},
    }
    write_json(folder / PLAN, plan)
    (folder / PLAN).chmod(0o600)
    return folder


def up(root: Path, say: Callable[[str], None]) -> StackState:
    """Starts the stack, or waits for one that is starting; does nothing to one that is up.

    Raises:
        CclmError: it cannot be started; nothing of it is left running.
    """
    folder = Project(root).state("stack")
    with FileLock(Project(root).state("locks") / "stack.lock"):
        if not running(folder):
            make_plan(root, say)
            (folder / STATE).unlink(missing_ok=True)
            process = _launch(root, folder)
        else:
            process = None
        try:
            return _wait_until_up(folder, process, say)
        except KeyboardInterrupt:
            say("interrupted: the stack is stopped again")
            _stop(folder, say)
            raise SystemExit(130) from None


def foreground(root: Path, say: Callable[[str], None]) -> None:
    """Becomes the supervisor, for systemd or a container: it ends with SIGTERM.

    Raises:
        CclmError: it cannot be started.
    """
    folder = make_plan(root, say)
    os.environ.pop("CCLM_DATABASE_URL", None)
    os.chdir(root)
    os.execv(sys.executable, _supervisor(folder))


def down(root: Path, say: Callable[[str], None]) -> None:
    """Stops the stack, and what a killed supervisor left of it.

    Raises:
        StackError: it did not stop.
    """
    folder = Project(root).state("stack")
    with FileLock(Project(root).state("locks") / "stack.lock"):
        _stop(folder, say)


def service_environment(folder: Path, name: str) -> dict[str, str]:
    """The environment that a service of the stack was last started with.

    Raises:
        ConfigError: the stack was never started, or has no such service.
    """
    if not (folder / PLAN).is_file():
        raise ConfigError("The stack must have been started once; it was not. Run `cclm stack up`.")
    plan = read_json(folder / PLAN)
    services = dict(plan["services"])
    if name not in services:
        raise ConfigError(f"{name} must be a service of the stack: {', '.join(services)}.")
    return {**os.environ, **plan["postgresql"], **plan["environment"], **services[name]["environment"]}


def forget_passwords(folder: Path) -> None:
    """Has the next start make new passwords; which database is used is kept.

    Raises:
        ConfigError: the stack runs.
    """
    if running(folder):
        raise ConfigError("The stack must be down to change its passwords; it runs. Run `cclm stack down` first.")
    (folder / CLIENTS).unlink(missing_ok=True)
    kept = read_settings(folder / SECRETS)
    if kept:
        write_settings(folder / SECRETS, {"CCLM_DATABASE_URL": kept.get("CCLM_DATABASE_URL", "")})


def _values(folder: Path, chosen: Databases, clients: dict[str, str], secret: dict[str, str]) -> dict[str, str]:
    auth = folder / "mlflow-users.ini"
    auth.touch(0o600)
    # configparser reads %% as %.
    auth.write_text(AUTH_FILE.format(uri=chosen.urls["mlflow_users"].replace("%", "%%")), encoding="utf-8")
    prefect = chosen.urls["prefect"]
    for plain, driver in (("postgresql://", "postgresql+asyncpg://"), ("sqlite://", "sqlite+aiosqlite://")):
        prefect = prefect.replace(plain, driver)
    return {
        "python": sys.executable,
        "postgresql_bin": chosen.binaries,
        "postgresql_data": chosen.data,
        "postgresql_user": chosen.user,
        "prefect_database": prefect,
        "mlflow_database": chosen.urls["mlflow"],
        "databases": " ".join(chosen.urls.values()),
        "prefect_credentials": clients["PREFECT_API_AUTH_STRING"],
        "mlflow_user": clients["MLFLOW_TRACKING_USERNAME"],
        "mlflow_password": clients["MLFLOW_TRACKING_PASSWORD"],
        "mlflow_auth_file": str(auth),
        "mlflow_secret_key": secret["MLFLOW_FLASK_SERVER_SECRET_KEY"],
        "artifacts": str(folder / "artifacts"),
    }


def _check_ports(config: StackConfig) -> None:
    owners: dict[int, str] = {}
    for name, service in config.services.items():
        if service.port is None:
            continue
        port = config.port(service.port)
        change = f"Choose another, e.g. `{service.port}={port + 1000} make up`."
        if port in owners:
            raise ConfigError(f"{name} and {owners[port]} must have a port each, got {port} for both. {change}")
        owners[port] = name
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise ConfigError(f"Port {port} must be free for {name}; another program has it. {change}") from None


def _supervisor(folder: Path) -> list[str]:
    return [sys.executable, "-m", "flows.stack.supervisor", str(folder)]


def _launch(root: Path, folder: Path) -> subprocess.Popen[bytes]:
    log = folder / "logs" / "supervisor.log"
    log.parent.mkdir(exist_ok=True)
    own = {name: value for name, value in os.environ.items() if name != "CCLM_DATABASE_URL"}
    with log.open("ab") as stream:
        return subprocess.Popen(
            _supervisor(folder),
            cwd=root,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # it outlives the terminal
        )


def _wait_until_up(folder: Path, process: subprocess.Popen[bytes] | None, say: Callable[[str], None]) -> StackState:
    said: dict[str, str] = {}
    last = StackState()
    while True:
        gone = process.poll() is not None if process else not running(folder)
        state = last if gone else read_state(folder)
        last = state if state.services else last
        for name, service in state.services.items():
            if service.state != said.get(name) and service.state != "waiting":
                said[name] = service.state
                say(f"{name}: {service.state}{': ' + service.message if service.message else ''}")
        if state.phase == "up":
            return state
        if gone:
            raise StackError(_failure(folder))
        time.sleep(POLL_SECONDS)


def _failure(folder: Path) -> str:
    services = last_state(folder).services if (folder / STATE).is_file() else {}
    for name, service in services.items():
        if service.state == "failed":
            log = folder / "logs" / f"{name}.log"
            shown = tail(log, SHOWN_LINES)
            return f"{name} did not start: {service.message}. Its last lines ({log}):\n{shown}"
    return f"the supervisor ended:\n{tail(folder / 'logs' / 'supervisor.log', SHOWN_LINES)}"


def _stop(folder: Path, say: Callable[[str], None]) -> None:
    if pid := supervisor(folder):
        os.kill(pid, signal.SIGTERM)
        say("the stack is stopping")
    deadline = time.monotonic() + DOWN_SECONDS
    while running(folder):
        if time.monotonic() > deadline:
            raise StackError(f"the supervisor, process {pid}, must have stopped within {DOWN_SECONDS:g} s; it has not.")
        time.sleep(POLL_SECONDS)
    left = members(folder)
    if left:
        say(f"{len(left)} processes that a killed supervisor left are stopped")
        end(left, 60.0)
