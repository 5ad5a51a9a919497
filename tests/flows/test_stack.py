"""The supervisor over real, tiny processes: order, health, restarts, an orderly end, nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from typer.testing import CliRunner

from cclm_core.runtime.errors import ConfigError
from flows import environment
from flows.stack import control
from flows.stack.cli import app
from flows.stack.config import StackConfig
from flows.stack.control import StackError
from flows.stack.credentials import client_settings, read_settings, server_secrets
from flows.stack.database import choose
from flows.stack.logs import RotatingLog, tail
from flows.stack.processes import members
from flows.stack.state import alone, folder_of, read_state, running

CHILD = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
SERVER = (
    CHILD + "from http.server import SimpleHTTPRequestHandler, test; "
    "test(SimpleHTTPRequestHandler, port={PORT}, bind='127.0.0.1')"
)
STUBBORN = (
    "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "pathlib.Path('ready').touch(); time.sleep(600)"
)
SERVICES = {
    "first": {"once": True, "command": ["{python}", "-c", "print('made')"]},
    "web": {
        "command": ["{python}", "-c", SERVER],
        "port": "PORT",
        "health": {"url": "http://127.0.0.1:{PORT}/", "every_seconds": 0.2, "timeout_seconds": 1, "failures": 3},
        "stop_seconds": 5,
    },
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """A project with nothing but a process file, and `cclm stack` on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, folder_of(root)
        (root / "infra").mkdir()
        (root / "dvc.yaml").touch()
        self.services = json.loads(json.dumps(SERVICES))

    def write(self, **settings: int) -> None:
        """The process file."""
        known = {"CCLM_PREFECT_PORT": 4200, "CCLM_MLFLOW_PORT": 5000, "CCLM_POSTGRESQL_PORT": 5433}
        known |= {"PORT": free_port()} | settings
        text = yaml.safe_dump({"settings": known, "services": self.services}, sort_keys=False)
        (self.root / "infra/stack.yaml").write_text(text)

    def up(self) -> list[str]:
        """Starts it, as `cclm stack up` does; returns what it said."""
        said: list[str] = []
        control.up(self.root, said.append)
        return said

    def down(self) -> None:
        """Stops it, as `cclm stack down` does."""
        control.down(self.root, lambda _: None)

    def pids(self) -> set[int]:
        """The processes of the services, and of what they started."""
        return {process.pid for process in members(self.folder)}

    def log(self) -> str:
        """What the supervisor printed."""
        return (self.folder / "logs/supervisor.log").read_text()

    def until(self, holds: Callable[[], bool], seconds: float = 30) -> None:
        """Waits."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("CCLM_DATABASE_URL", "sqlite")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    made = Stack(tmp_path)
    made.write()
    yield made
    made.down()
    assert members(made.folder) == []


def test_up_restart_hang_down(stack: Stack) -> None:
    told = stack.up()
    assert told.index("first: done") < told.index("web: healthy")
    web = read_state(stack.folder).services["web"]
    stack.until(lambda: len(stack.pids()) == 2)  # a child's environment can be read a moment after its start
    assert web.restarts == 0
    assert tail(stack.folder / "logs/first.log", 1) == "made"

    stack.up()
    assert read_state(stack.folder).services["web"].pid == web.pid

    os.kill(web.pid, signal.SIGKILL)  # it dies: it is started again, and the child that it left is ended
    stack.until(lambda: (now := read_state(stack.folder).services["web"]).restarts == 1 and now.state == "healthy")
    second = read_state(stack.folder).services["web"].pid
    stack.until(lambda: len(stack.pids()) == 2)
    assert second != web.pid
    assert "it was ended by SIGKILL; it is started again in 1 s" in stack.log()

    os.kill(second, signal.SIGSTOP)  # it lives and no longer answers
    stack.until(lambda: (now := read_state(stack.folder).services["web"]).restarts == 2 and now.state == "healthy")

    stack.down()
    assert members(stack.folder) == [] and not running(stack.folder)
    stack.down()


def test_a_killed_supervisor_leaves_nothing(stack: Stack) -> None:
    stack.up()
    state = read_state(stack.folder)
    psutil.Process(state.supervisor).kill()
    stack.until(lambda: state.services["web"].pid not in stack.pids())
    left = stack.pids()
    stack.up()  # ends the grandchild that is left, and starts anew
    stack.until(lambda: len(stack.pids()) == 2)
    assert left and left.isdisjoint(stack.pids())


def test_one_that_dies_is_not_taken_for_one_that_lives(tmp_path: Path) -> None:
    # Its main thread has ended, and its services with it, while another thread still holds the lock.
    code = "import ctypes, pathlib, threading, time; from flows.stack.state import alone\n"
    code += f"with alone(pathlib.Path({str(tmp_path)!r})):\n"
    code += "    threading.Thread(target=time.sleep, args=[600]).start(); print(flush=True)\n"
    code += "    ctypes.CDLL(None).pthread_exit(None)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as dying:
        try:
            assert dying.stdout and dying.stdout.readline() == b"\n"
            deadline = time.monotonic() + 30
            while psutil.Process(dying.pid).status() != psutil.STATUS_ZOMBIE:
                assert time.monotonic() < deadline
            assert not running(tmp_path)
            with pytest.raises(ConfigError, match="must have one supervisor"), alone(tmp_path):
                raise AssertionError
        finally:
            dying.kill()


def test_a_service_that_does_not_start_stops_the_others_and_says_why(stack: Stack) -> None:
    stack.services["broken"] = {"command": ["{python}", "-c", "print('no luck'); raise SystemExit(7)"], "once": True}
    stack.write()
    with pytest.raises(StackError, match=r"broken did not start: it ended with exit code 7.*\n.*no luck"):
        stack.up()
    assert members(stack.folder) == [] and not running(stack.folder)


def test_a_service_that_does_not_become_healthy_or_stop_in_time_is_killed(stack: Stack) -> None:
    health = {"command": ["{python}", "-c", "raise SystemExit(3)"]}
    service = {"command": ["{python}", "-c", STUBBORN], "health": health, "start_seconds": 2, "stop_seconds": 0.5}
    stack.services = {"stubborn": service}
    stack.write()
    with pytest.raises(StackError, match=r"it was not healthy within 2 s: .* exit code 3"):
        stack.up()
    assert (stack.root / "ready").exists()
    assert "did not stop within 0.5 s and is killed" in stack.log()
    assert members(stack.folder) == []


def test_a_port_that_is_taken_is_named_with_the_setting(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("PORT", str(port))
        words = f"Port {port} must be free for web; another program has it. Choose another, e.g. `PORT="
        with pytest.raises(ConfigError, match=words):
            stack.up()
    assert not running(stack.folder)


def test_the_commands(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stack.root)
    cclm = CliRunner()
    down = cclm.invoke(app, ["status"])
    assert down.exit_code == 1 and down.output == "the stack is down\n"
    assert "web: healthy" in cclm.invoke(app, ["up"]).output
    shown = cclm.invoke(app, ["status", "--json"])
    assert shown.exit_code == 0 and [one["name"] for one in json.loads(shown.output)["services"]] == ["first", "web"]
    table = cclm.invoke(app, ["status"]).output
    assert "healthy" in table and "the stack is up" in table and "Prefect http://127.0.0.1:4200" in table
    assert "export PREFECT_API_AUTH_STRING=cclm:" in cclm.invoke(app, ["environment"]).output
    names = ("MLFLOW_TRACKING_USERNAME", "DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED")
    asked = f"import os; raise SystemExit([os.environ[name] for name in {names}] != ['cclm', '1', 'false'])"
    assert cclm.invoke(app, ["exec", "web", sys.executable, "-c", asked]).exit_code == 0
    assert isinstance(cclm.invoke(app, ["rotate"]).exception, ConfigError)
    assert "the stack is down" in cclm.invoke(app, ["down"]).output


def test_in_the_foreground_it_ends_with_sigterm(stack: Stack) -> None:
    command = [sys.executable, "-m", "flows.cli", "stack", "up", "--foreground"]
    with subprocess.Popen(command, cwd=stack.root, stdout=subprocess.PIPE, text=True) as process:
        stack.until(lambda: read_state(stack.folder).phase == "up")
        assert read_state(stack.folder).supervisor == process.pid
        process.terminate()
        assert process.wait(30) == 0 and process.stdout and "web: healthy" in process.stdout.read()
    assert members(stack.folder) == []


def test_clients_find_the_stack_while_it_is_up(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "MLFLOW_")):
            monkeypatch.delenv(name)
    assert environment.of_stack(stack.root) == {}
    stack.up()
    found = environment.of_stack(stack.root)
    assert found["PREFECT_API_URL"] == "http://127.0.0.1:4200/api" and found["MLFLOW_TRACKING_USERNAME"] == "cclm"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert not any(name.startswith("MLFLOW_") for name in environment.of_stack(stack.root))
    stack.down()
    assert environment.of_stack(stack.root) == {}


def test_credentials_are_made_once_kept_closed_and_rotated(tmp_path: Path) -> None:
    first = client_settings(tmp_path, 4200, 5000)
    secret = server_secrets(tmp_path, "sqlite")
    assert client_settings(tmp_path, 4300, 5000) == first | {"PREFECT_API_URL": "http://127.0.0.1:4300/api"}
    assert server_secrets(tmp_path, None) == secret and secret["CCLM_DATABASE_URL"] == "sqlite"
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in ("environment", "secrets"))
    control.forget_passwords(tmp_path)
    assert client_settings(tmp_path, 4200, 5000)["MLFLOW_TRACKING_PASSWORD"] != first["MLFLOW_TRACKING_PASSWORD"]
    assert server_secrets(tmp_path, None)["CCLM_DATABASE_URL"] == "sqlite"
    (tmp_path / "environment").write_text("no setting\n")
    with pytest.raises(ConfigError, match="environment:1 must be NAME=value"):
        read_settings(tmp_path / "environment")


def test_database_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = choose(tmp_path, "postgresql://me:secret@db:5432", "", 0)
    assert given.urls["mlflow"] == "postgresql://me:secret@db:5432/cclm_mlflow" and given.kind == "postgresql"
    programs = {"PGHOST": "db", "PGPORT": "5432", "PGUSER": "me", "PGPASSWORD": "secret"}
    assert given.for_programs() == programs
    with pytest.raises(ConfigError, match=r"must be postgresql://.*got mysql://\.\.\.@db\.") as caught:
        choose(tmp_path, "mysql://me:secret@db", "", 0)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("flows.stack.database.DEBIAN", tmp_path)
    with pytest.raises(ConfigError, match="apt-get install postgresql"):
        choose(tmp_path, "", "", 5433)


def test_the_process_file_of_this_project_is_whole(tmp_path: Path) -> None:
    config = StackConfig.read(Path(__file__).parents[2] / "infra/stack.yaml")
    assert all(config.port(service.port) for service in config.services.values() if service.port)
    with pytest.raises(ConfigError, match=r"\{postgresql_bin\} must be a known name"):
        config.rendered({}, {"own_database"})
    (tmp_path / "stack.yaml").write_text("services: {a: {command: [x], helth: {}}}")
    with pytest.raises(ConfigError, match="did you mean 'health'"):
        StackConfig.read(tmp_path / "stack.yaml")


def test_a_log_stays_small(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log", max_bytes=10, num_old=2)
    for number in range(5):
        log.write(f"line {number}\n".encode())
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.log", "a.log.1", "a.log.2"]
    assert [tail(tmp_path / name, 5) for name in ("a.log", "a.log.1", "a.log.2")] == ["line 4", "line 3", "line 2"]
