"""Every server that a command starts asks for credentials, refuses other hosts, and reports a taken port."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from cclm_core.runtime.artifacts import folder_digest, publishing
from flows.gate.registry import DIGEST_TAG, Registry
from flows.recovery.prefect_private import APPLICATION
from flows.tracking.client import connect
from tests.flows.conftest import Toy

ROOT = Path(__file__).parents[2]
SECONDS = 240
EVIL = "evil.example"
Answer = tuple[int, str]


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as made:
        return int(made.getsockname()[1])


def ask(port: int, path: str, token: str = "", method: str = "GET", **headers: str) -> Answer:
    """The status and body of an answer; a token is sent as the password of basic authentication."""
    if token:
        headers["Authorization"] = f"Basic {base64.b64encode(f'cclm:{token}'.encode()).decode()}"
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        body = headers.pop("body", None)
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")


def register(project: Toy, model: Path) -> None:
    """Registers the model as the champion of `both`."""
    composition = project.root / "compositions/both"
    with publishing(composition, "composition") as folder:
        for path in sorted(model.rglob("*")):
            target = folder / path.relative_to(model)
            target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    tracking = connect(project)
    run = tracking.create_run("x", {})
    version = Registry(tracking).register(
        run, "cclm-both", composition, {"f1": 0.5}, {DIGEST_TAG: folder_digest(composition)}
    )
    Registry(tracking).set_alias("cclm-both", "champion", version.number)
    tracking.set_status(run, "FINISHED")


class Command:
    """A `cclm` command that runs until it is stopped."""

    def __init__(self, project: Toy, *words: str) -> None:
        self.log = project.root / f"{words[0]}.log"
        settings = project.environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{project.root}", "CCLM_PUSH": "off"}
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *words],
                cwd=project.root,
                env=settings,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def wait_for(self, port: int) -> None:
        """Waits until something listens on the port."""
        until = time.monotonic() + SECONDS
        while True:
            assert self.process.poll() is None, self.log.read_text()
            with closing(socket.socket()) as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.2)

    def prefect_port(self) -> int:
        """The port of the temporary Prefect server among its children."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            for child in psutil.Process(self.process.pid).children(recursive=True):
                words = child.cmdline()
                if APPLICATION in words:
                    return int(words[words.index("--port") + 1])
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


@pytest.fixture
def tracked(project: Toy, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    """A project with a registered champion."""
    monkeypatch.chdir(project.root)
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "CCLM_UI_TOKEN", "CCLM_SERVE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    register(project, model)
    project.environment.pop("CCLM_TRACKING")
    yield project
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.timeout(900)
def test_servers_answer_401_or_403_without_credentials(tracked: Toy) -> None:
    tracked.params(lambda values: [one.update(seconds=40) for one in values["components"].values()])
    pages, embeddings = free_port(), free_port()
    commands = [
        Command(tracked, "ui", "--port", str(pages)),
        Command(tracked, "serve", "both", "--port", str(embeddings)),
        Command(tracked, "run"),
    ]
    try:
        prefect = commands[2].prefect_port()
        for command, port in zip(commands, (pages, embeddings, prefect), strict=True):
            command.wait_for(port)
        check_prefect(prefect)
        check_pages(pages, (tracked.root / ".cclm/ui.token").read_text().strip())
        check_embeddings(embeddings, (tracked.root / ".cclm/serve.token").read_text().strip())
        for name in ("ui.token", "serve.token", "registry.key"):
            assert (tracked.root / ".cclm" / name).stat().st_mode & 0o777 == 0o600
    finally:
        for command in commands:
            command.stop()
    assert not list((tracked.root / ".cclm/serving").iterdir())  # the copy of the model


def check_prefect(port: int) -> None:
    """The API of `cclm run`'s temporary server, as a stranger and as a page in the user's browser would ask it."""
    paths = ("/api/flow_runs/filter", "/api/variables/", "/api/work_pools/filter", "/api/admin/settings")
    for path in paths:
        for headers in ({}, {"Origin": f"http://{EVIL}", "Host": EVIL}):
            status, _ = ask(port, path, method="POST", body="{}", **headers)
            assert status in (401, 403), path
    status, _ = ask(port, "/api/admin/settings")
    assert status == 401
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        headers = {"Origin": f"http://{EVIL}", "Access-Control-Request-Method": "POST"}
        connection.request("OPTIONS", "/api/flow_runs/filter", headers=headers)
        assert connection.getresponse().headers.get("Access-Control-Allow-Origin") is None


def check_pages(port: int, token: str) -> None:
    """MLflow's pages and API of `cclm ui`."""
    search = "/api/2.0/mlflow/experiments/search?max_results=5"
    for path in ("/", "/health", "/version", search, "/static-files/x", "/ajax-api/3.0/jobs/x", "/v1/traces"):
        assert ask(port, path)[0] == 401, path
        assert ask(port, path, "wrong" * 8)[0] == 401, path
    assert ask(port, "/api/2.0/mlflow/registered-models/alias", method="POST", body="{}")[0] == 401
    assert ask(port, search, token)[0] == 200 and "cclm" in ask(port, search, token)[1]
    assert ask(port, "/health", token)[0] == 200
    assert ask(port, search, token, Host=EVIL)[0] == 403
    assert ask(port, search, token, Origin=f"http://{EVIL}")[0] == 403


def check_embeddings(port: int, token: str) -> None:
    """`cclm serve`: credentials, types, limits, and no tracebacks."""
    for path in ("/", "/ping", "/health", "/invocations", "/version", "/docs"):
        assert ask(port, path)[0] == 401
    good = json.dumps({"inputs": ["Give me excess", ""]})
    assert ask(port, "/invocations", method="POST", body=good)[0] == 401
    assert ask(port, "/invocations", token, "POST", body=good, Host=EVIL)[0] == 403
    assert ask(port, "/ping", token) == (200, '{"status": "ok"}')

    def post(value: object, **headers: str) -> Answer:
        body = value if isinstance(value, str) else json.dumps(value)
        status, text = ask(port, "/invocations", method="POST", body=body, Authorization=f"Bearer {token}", **headers)
        assert "Traceback" not in text and "site-packages" not in text
        return status, text

    status, text = post({"inputs": ["Give me excess", ""]})
    first, empty = json.loads(text)["predictions"]
    assert status == 200 and len(first) == len(empty) > 0 and any(first) and not any(empty)
    table = {"dataframe_split": {"columns": ["text"], "data": [["Give me excess"], [""]]}}
    assert json.loads(post(table)[1])["predictions"] == [first, empty]
    rows = json.loads(post({"inputs": ["ab", ""], "params": {"output": "characters"}})[1])["predictions"]
    assert [len(row) for row in rows] == [2, 0] and len(rows[0][0]) == len(first)
    assert post({"inputs": ["ab"], "params": {"output": "nonsense"}}) == (
        400,
        '{"error": "output must be one of mean, characters, got \'nonsense\'."}',
    )
    for wrong in ([None], [5], [True], ["a", None], [["a", "b"]], 5, "a"):
        assert post({"inputs": wrong})[0] == 400, wrong
    for body in ('{"inputs": [NaN]}', "[" * 100_000, '{"inputs": ["a"], "inputs": ["b"]}'):
        assert post(body)[0] == 400, body[:30]
    assert post({"inputs": ["ab cd " * 700_000]})[0] == 413
    assert post({"inputs": ["a"] * 1001})[0] == post({"inputs": ["a" * 100_001]})[0] == 413
    assert ask(port, "/invocations", token)[0] == 405 and ask(port, "/nothing", token)[0] == 404


def test_the_health_server_of_a_worker_asks_for_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_WORKER_WEBSERVER_PORT, temporary_settings
    from prefect.workers import server

    from infra.stack.worker import guard_health_server, main

    monkeypatch.setattr(server, "_build_healthcheck_server", server._build_healthcheck_server)
    guard_health_server("cclm:the password")
    port, password = free_port(), "the password"
    with temporary_settings({PREFECT_WORKER_WEBSERVER_PORT: port}):
        made = server._build_healthcheck_server(lambda: True)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not made.started:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert ask(port, "/health")[0] == ask(port, "/health", "wrong")[0] == ask(port, "/docs")[0] == 401
        assert ask(port, "/health", password)[0] == 200
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", f"cclm:{password}")
        assert main(["health", f"http://127.0.0.1:{port}/health"]) == 0
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "")
        assert main(["health", f"http://127.0.0.1:{port}/health"]) == 1
    finally:
        made.should_exit = True
        thread.join(30)
    assert main(["start", "--pool", "x"]) == 2  # without a password, no worker starts


def test_no_worker_of_the_stack_or_of_the_containers_starts_an_open_health_server() -> None:
    texts = [(ROOT / "infra/stack.conf").read_text(), (ROOT / "infra/containers/compose.yaml").read_text()]
    for text in texts:
        assert "--with-healthcheck" not in text and len(re.findall(r"infra\.stack\.worker,? start", text)) == 2


@pytest.mark.parametrize("words", [["ui"], ["serve", "both"]])
def test_a_taken_port_is_one_message(project: Toy, words: list[str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        done = project.run(sys.executable, "-m", "flows.cli", *words, "--port", port, check=False)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == f"error: port {port} must be free: Address already in use. Choose another one with --port.\n"


def test_the_pages_use_the_server_that_is_configured(project: Toy) -> None:
    done = project.run(sys.executable, "-m", "flows.cli", "ui", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.stdout == "MLflow is at http://127.0.0.1:9\n"
