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
from typing import Any

import psutil
import pytest

from cclm_core.runtime.artifacts import folder_digest, publishing
from flows.gate.registry import DIGEST_TAG, Registry
from flows.gate.seal import SEAL_TAG
from flows.recovery.prefect_private import APPLICATION
from flows.tracking.client import connect
from tests.flows.conftest import Toy
from tests.flows.services import until

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
            if listens(port):
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
        if self.process.poll() is not None:
            return
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_servers_answer_401_or_403_without_credentials(tracked: Toy) -> None:
    tracked.params(lambda values: [one.update(seconds=40) for one in values["components"].values()])
    pages, service = free_port(), free_port()
    commands = [
        Command(tracked, "ui", "--port", str(pages)),
        Command(tracked, "serve", "both", "--port", str(service), "--refresh-seconds", "0.5"),
        Command(tracked, "run"),
    ]
    try:
        prefect = commands[2].prefect_port()
        for command, port in zip(commands, (pages, service, prefect), strict=True):
            command.wait_for(port)
        check_prefect(prefect)
        check_pages(pages, (tracked.root / ".cclm/ui.token").read_text().strip())
        token = (tracked.root / ".cclm/serve.token").read_text().strip()
        check_service(tracked, service, token)
        for name in ("ui.token", "serve.token", "registry.key"):
            assert (tracked.root / ".cclm" / name).stat().st_mode & 0o777 == 0o600
        check_end(commands[1], service, token)
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


def check_service(project: Toy, port: int, token: str) -> None:
    """`cclm serve`: credentials, embeddings, a newer champion, and one whose files were changed."""
    for path in ("/", "/models", "/metrics", "/embed", "/docs", "/openapi.json"):
        assert ask(port, path)[0] == 401
    body = json.dumps({"texts": ["Give me excess", ""]})
    bearer = {"method": "POST", "body": body, "Authorization": f"Bearer {token}"}
    assert ask(port, "/embed", method="POST", body=body)[0] == 401
    assert ask(port, "/embed", Host=EVIL, **bearer)[0] == 403
    status, text = ask(port, "/embed", **bearer)
    first, empty = json.loads(text)["embeddings"]
    assert status == 200 and len(first) == len(empty) > 0 and any(first) and not any(empty)
    assert ask(port, "/health") == (200, '{"status":"ok","ready":true}')

    def served() -> dict[str, Any]:
        """The description of the model."""
        return dict(json.loads(ask(port, "/models", token)[1])["models"][0])

    assert served()["model"] == "both@champion" and served()["version"] == "1"
    copies = [copy_of_champion(project), copy_of_champion(project, **{SEAL_TAG: "0" * 16 + ":" + "0" * 64})]
    set_champion(project, copies[0])
    until(lambda: served()["version"] == copies[0])
    set_champion(project, copies[1])
    until(lambda: served()["problem"] is not None)
    assert served()["version"] == copies[0] and "it was registered with another key" in served()["problem"]
    assert ask(port, "/health") == (200, '{"status":"degraded","ready":true}')
    assert json.loads(ask(port, "/embed", **bearer)[1])["embeddings"] == [first, empty]
    set_champion(project, copies[0])
    until(lambda: served()["problem"] is None)


def check_end(command: Command, port: int, token: str) -> None:
    """A service that is told to end finishes the request that it is receiving, and takes no new one."""
    body = json.dumps({"texts": ["Give me excess"]}).encode()
    with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as client:
        head = f"POST /embed HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: "
        client.sendall(head.encode() + b"%d\r\n\r\n" % len(body) + body[:5])
        until(lambda: "cclm_requests_in_flight 2.0" in ask(port, "/metrics", token)[1])
        command.process.terminate()
        until(lambda: not listens(port))
        client.sendall(body[5:])
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"embeddings":' in answer
    assert command.process.wait(60) == 0, command.log.read_text()


def copy_of_champion(project: Toy, **tags: str) -> str:
    """Registers the champion again, with other tags; returns the number of the version."""
    registry = Registry(connect(project))
    champion = registry.get("cclm-both", "champion")
    assert champion is not None
    first = registry.client.get_model_version("cclm-both", champion.number)
    made = registry.client.create_model_version(
        "cclm-both", first.source, first.run_id, tags=dict(champion.tags) | tags, model_id=first.model_id
    )
    return str(made.version)


def set_champion(project: Toy, number: str) -> None:
    """Moves the alias `champion`."""
    Registry(connect(project)).set_alias("cclm-both", "champion", number)


def listens(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


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
