"""supervisord and the keeper on small real processes: start order, health, restarts, orderly stop, no leftovers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cclm_core.runtime.errors import ConfigError
from flows import environment
from flows.processes import environment_variable
from flows.project import Project
from infra.stack.__main__ import phase, status
from infra.stack.cluster import cluster_variables
from infra.stack.keeper import members
from infra.stack.settings import database_urls, read_conf, service_environment

REPOSITORY = Path(__file__).parents[2]
WEB = """import subprocess, sys
from http.server import SimpleHTTPRequestHandler, test
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
test(SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""
STUBBORN = """import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stack:
    """A project with the services `keeper`, `first` and `web`, and `python -m infra.stack` on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / ".cclm" / "stack"
        (root / "infra").mkdir()
        (root / "dvc.yaml").touch()
        (root / "web.py").write_text(WEB)
        self.conf = read_conf(REPOSITORY / "infra/stack.conf")
        for section in self.conf.sections():
            if section.startswith("program:") and section != "program:keeper":
                self.conf.remove_section(section)
        for name in self.conf["settings"]:
            if name.endswith("_PORT"):
                self.conf["settings"][name] = str(free_port())
        seconds = {"CCLM_CHECK_SECONDS": "0.3", "CCLM_START_SECONDS": "60"}
        self.conf["settings"].update({**seconds, "CCLM_WEB_PORT": str(free_port())})
        self.add("first", "-c \"print('hello')\"", cclm_health="exit", startsecs="0", autorestart="false")
        health = "http://127.0.0.1:%(ENV_CCLM_WEB_PORT)s/"
        self.add("web", "web.py %(ENV_CCLM_WEB_PORT)s", cclm_health=health, startsecs="1")

    def add(self, name: str, arguments: str, **keys: str) -> None:
        """Adds a Python program to the configuration, after the others."""
        priority = str(10 + len(self.conf))
        command = f'"%(ENV_CCLM_PYTHON)s" {arguments}'
        self.conf[f"program:{name}"] = {"command": command, "priority": priority} | keys
        with (self.root / "infra/stack.conf").open("w") as stream:
            self.conf.write(stream)

    def run(self, *words: str, code: int = 0, **variables: str) -> str:
        """Runs a command of the stack and returns its output."""
        done = subprocess.run(
            [sys.executable, "-m", "infra.stack", *words],
            cwd=self.root,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def service(self, name: str) -> dict[str, Any]:
        """The entry of a service in `ps --json`."""
        return next(service for service in status(self.folder)["services"] if service["name"] == name)

    def is_healthy(self, name: str, *old_pids: int) -> bool:
        """Whether a service is healthy in a process other than these."""
        service = self.service(name)
        return service["pid"] not in (0, *old_pids) and not service["problem"]

    def supervisord(self) -> psutil.Process:
        """The process of supervisord."""
        return psutil.Process(int((self.folder / "supervisord.pid").read_text()))

    def pids(self, name: str = "web") -> set[int]:
        """The process of a service and its children."""
        running = members(self.folder)
        return {process.pid for process in running if environment_variable(process, "SUPERVISOR_PROCESS_NAME") == name}

    def log(self) -> str:
        """The keeper's log."""
        return (self.folder / "logs/keeper.log").read_text()

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Waits until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("CCLM_DATABASE_URL", "sqlite")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "MLFLOW_")):
            monkeypatch.delenv(name)
    stack = Stack(tmp_path)
    yield stack
    stack.run("down")
    assert members(stack.folder) == []


def test_up_crash_hang_down(stack: Stack) -> None:
    lines = stack.run("up", CCLM_START_SECONDS="20").splitlines()
    assert lines[:4] == ["keeper: healthy", "first: done", "web: healthy", "the stack is up"]
    assert (stack.folder / "logs/first.log").read_text() == "hello\n"
    socket_file = stack.folder / "supervisord.sock"
    assert socket_file.is_socket() and socket_file.stat().st_mode & 0o777 == 0o700
    first = stack.service("web")["pid"]
    stack.until(lambda: len(stack.pids()) == 2)

    stack.run("up")
    assert stack.service("web")["pid"] == first

    time.sleep(1.1)  # longer than `startsecs`
    old = stack.pids()
    os.kill(first, signal.SIGKILL)  # web is restarted, and the child of the old process is ended
    stack.until(lambda: stack.is_healthy("web", first))
    stack.until(lambda: len(stack.pids()) == 2 and stack.pids().isdisjoint(old))

    second = stack.service("web")["pid"]
    os.kill(second, signal.SIGSTOP)  # web is alive but does not respond
    stack.until(lambda: "timed out" in stack.service("web")["problem"])
    stack.until(lambda: stack.is_healthy("web", second), seconds=120)  # it had CCLM_START_SECONDS to respond
    assert "web does not respond, restarting it: " in stack.log()

    stack.run("down")
    assert members(stack.folder) == []
    stack.run("down")


def test_a_crash_loop_backs_off_and_recovers(stack: Stack) -> None:
    stack.run("up")
    (stack.root / "web.py").rename(stack.root / "moved.py")
    os.kill(stack.service("web")["pid"], signal.SIGKILL)
    stack.until(lambda: stack.service("web")["problem"].startswith("Exited too quickly"))
    assert stack.run("ps", code=1).endswith("the stack is up\n")
    (stack.root / "moved.py").rename(stack.root / "web.py")
    stack.until(lambda: stack.is_healthy("web"))


def test_leftovers_of_a_killed_supervisord_are_ended(stack: Stack) -> None:
    stack.run("up")
    stack.until(lambda: len(stack.pids()) == 2)
    old = {process.pid for process in members(stack.folder)}
    stack.supervisord().kill()
    stack.until(lambda: environment.stack_defaults(Project(stack.root)) == {})
    assert phase(stack.folder) == "down"
    assert stack.run("ps", code=1) == "the stack is down\n"
    stack.run("up")
    assert old.isdisjoint({process.pid for process in members(stack.folder)})
    stack.supervisord().kill()
    stack.run("down")
    assert members(stack.folder) == []


def test_a_killed_keeper_is_restarted_and_the_services_keep_running(stack: Stack) -> None:
    stack.run("up")
    web, keeper = stack.service("web")["pid"], stack.service("keeper")["pid"]
    time.sleep(1.1)
    os.kill(keeper, signal.SIGKILL)
    stack.until(lambda: stack.is_healthy("keeper", keeper))
    assert stack.service("web")["pid"] == web


def test_up_waits_for_a_supervisord_that_is_stopping(stack: Stack) -> None:
    code = STUBBORN.strip().replace("\n", ";")
    stack.add("stubborn", f"-c '{code}'", stopwaitsecs="3")
    stack.run("up")
    stack.until(lambda: "ready" in (stack.folder / "logs/stubborn.log").read_text())
    old = stack.supervisord()
    old.terminate()
    stack.until(lambda: phase(stack.folder) == "stopping")
    stack.run("up")
    assert phase(stack.folder) == "up" and not old.is_running() and stack.supervisord() != old


def test_a_service_that_fails_to_start_stops_the_others_and_shows_its_log(stack: Stack) -> None:
    stack.add(
        "broken", "-c \"print('no luck'); raise SystemExit(7)\"", cclm_health="exit", startsecs="0", autorestart="false"
    )
    output = stack.run("up", code=2)
    assert "error: broken is not healthy after " in output
    assert " s: exit code 7. Its log ends:\nno luck\n" in output
    assert members(stack.folder) == [] and phase(stack.folder) == "down"


def test_a_service_that_does_not_become_healthy_in_time_is_killed(stack: Stack) -> None:
    stack.conf["settings"]["CCLM_START_SECONDS"] = "2"
    code = STUBBORN.strip().replace("\n", ";")
    stack.add("stubborn", f"-c '{code}'", cclm_health="false", stopwaitsecs="1")
    assert "stubborn is not healthy after 2 s: " in stack.run("up", code=2)
    assert "killing 'stubborn'" in (stack.folder / "logs/supervisord.log").read_text()
    assert members(stack.folder) == []


def test_a_port_in_use_is_named_with_its_setting(stack: Stack) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert f"CCLM_WEB_PORT={port} must be a free port" in stack.run("up", code=2, CCLM_WEB_PORT=port)
    same = stack.conf["settings"]["CCLM_MLFLOW_PORT"]
    assert f"CCLM_WEB_PORT={same} must be a free port" in stack.run("up", code=2, CCLM_WEB_PORT=same)
    assert "CCLM_WEB_PORT=x must be a free port" in stack.run("up", code=2, CCLM_WEB_PORT="x")
    assert members(stack.folder) == []


def test_ps_and_the_environment_of_the_services(stack: Stack) -> None:
    names = "'MLFLOW_TRACKING_USERNAME', 'DO_NOT_TRACK', 'PREFECT_SERVER_ANALYTICS_ENABLED', 'CCLM_DATABASE_URL'"
    stack.add(
        "show",
        f'-c "import os; print([os.environ.get(name) for name in ({names})])"',
        cclm_health="exit",
        startsecs="0",
        autorestart="false",
    )
    assert stack.run("ps", code=1) == "the stack is down\n"
    stack.run("up")
    assert (stack.folder / "logs/show.log").read_text() == "['cclm', '1', 'false', None]\n"
    shown = json.loads(stack.run("ps", "--json"))
    assert [service["name"] for service in shown["services"]] == ["keeper", "first", "web", "show"]
    assert [service["statename"] for service in shown["services"]] == ["RUNNING", "EXITED", "RUNNING", "EXITED"]
    assert shown["phase"] == "up" and not any(service["problem"] for service in shown["services"])
    output = stack.run("ps")
    assert "web            RUNNING   pid " in output and output.endswith("the stack is up\n")
    assert "the stack is down" in stack.run("down")


def test_clients_find_the_stack_while_it_is_up(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.stack_defaults(Project(stack.root)) == {}
    stack.run("up")
    assert (stack.folder / "client.env").stat().st_mode & 0o777 == 0o600
    settings = environment.stack_defaults(Project(stack.root))
    port = stack.conf["settings"]["CCLM_PREFECT_PORT"]
    assert settings["PREFECT_API_URL"] == f"http://127.0.0.1:{port}/api"
    assert settings["MLFLOW_TRACKING_USERNAME"] == "cclm"
    assert "PREFECT_API_AUTH_STRING" in settings and "MLFLOW_TRACKING_PASSWORD" in settings
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert not any(name.startswith("MLFLOW_") for name in environment.stack_defaults(Project(stack.root)))
    stack.run("down")
    assert environment.stack_defaults(Project(stack.root)) == {} and not (stack.folder / "client.env").exists()


def test_another_process_with_the_pid_of_supervisord_is_not_mistaken_for_it(tmp_path: Path) -> None:
    (tmp_path / "client.env").write_text(
        f"CCLM_SUPERVISORD={os.uname().nodename}:{os.getpid()}:1-0\nPREFECT_API_URL=x\n"
    )
    assert environment.stack_settings(tmp_path) == {}


def test_passwords_are_generated_once_and_private(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.folder.mkdir(parents=True)
    names = ("PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY")
    first = service_environment(Project(stack.root), stack.folder)
    monkeypatch.delenv("CCLM_DATABASE_URL")  # remembered
    second = service_environment(Project(stack.root), stack.folder)
    assert all(first[name] == second[name] for name in names) and second["CCLM_MLFLOW_DATABASE"].startswith("sqlite:")
    assert all((stack.folder / name).stat().st_mode & 0o777 == 0o600 for name in ("secrets.env", "mlflow-users.ini"))
    (stack.folder / "secrets.env").write_text("CCLM_DATABASE_URL=sqlite\n")
    assert service_environment(Project(stack.root), stack.folder)[names[1]] != first[names[1]]


def test_database_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    external = database_urls("postgresql://me:secret@db:5432/", tmp_path)
    assert external["CCLM_MLFLOW_DATABASE"] == "postgresql://me:secret@db:5432/cclm_mlflow"
    assert external["CCLM_PREFECT_DATABASE"] == "postgresql+asyncpg://me:secret@db:5432/cclm_prefect"
    files = database_urls("sqlite", tmp_path)
    assert files["CCLM_PREFECT_DATABASE"] == f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    assert files["CCLM_DATABASES"] == ""
    with pytest.raises(ConfigError, match=r"CCLM_DATABASE_URL must be .*got mysql://\.\.\.@db\.") as caught:
        database_urls("mysql://me:secret@db", tmp_path)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("infra.stack.cluster.DEBIAN", tmp_path)
    with pytest.raises(ConfigError, match="apt-get install postgresql"):
        cluster_variables(tmp_path, "")


def test_the_configuration_of_this_project(tmp_path: Path) -> None:
    conf = read_conf(REPOSITORY / "infra/stack.conf")
    programs = [section for section in conf.sections() if section.startswith("program:")]
    priorities = [int(conf[section]["priority"]) for section in programs]
    assert priorities == sorted(set(priorities))  # they start in the order of the file and stop by priority
    assert [section for section in programs if "cclm_health" not in conf[section]] == ["program:keeper"]
    assert [section for section in conf.sections() if "inet" in section] == []
    assert all("0.0.0.0" not in value for section in programs for value in conf[section].values())
    with pytest.raises(ConfigError, match="not found"):
        read_conf(tmp_path / "stack.conf")


def test_logs_rotate(stack: Stack) -> None:
    code = "import time; [(print('x' * 100, flush=True), time.sleep(0.1)) for _ in range(40)]; time.sleep(600)"
    stack.add("loud", f'-c "{code}"', stdout_logfile_maxbytes="500")
    stack.run("up")
    stack.until(lambda: (stack.folder / "logs/loud.log.3").is_file())
    assert not (stack.folder / "logs/loud.log.4").exists()
