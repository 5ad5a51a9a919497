"""A scheduled run: the page that explains it, the record that shows whether it is overdue, and the alerts."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.flow_engine import run_flow

from cclm_core.runtime.artifacts import write_json
from cclm_core.runtime.errors import ConfigError
from flows import processes
from flows.deployments import alerts
from flows.run.nightly import (
    DIED,
    FAILED,
    FILE,
    FINISHED,
    LATE_SECONDS,
    RUNNING,
    WAITING,
    Nightly,
    nightly,
    schedule_problems,
    scheduled,
)
from flows.run.status import read_status
from tests.flows.conftest import Drive, Toy
from tests.flows.test_stage import wait_for

DUE = 1_800_000_000.0


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:  # noqa: ARG001
    with get_client(sync_client=True) as server:
        yield server


@pytest.fixture
def received() -> Iterator[tuple[str, list[Any]]]:
    """The address of a webhook in this process, and what it has received."""
    messages: list[Any] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        """Stores the body of each request."""

        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/T0/secret", messages
        server.shutdown()


def pages(client: SyncPrefectClient, run: str) -> list[Any]:
    """The artifacts of a flow run, as Prefect's page lists them."""
    body = {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"not_any_": ["result"]}}, "sort": "ID_DESC"}
    rows: list[Any] = client._client.post("/artifacts/filter", json=body).json()
    return rows


def test_the_page_of_a_flow_run_explains_what_changed_what_ran_and_what_failed(
    done: Toy, drive: Drive, client: SyncPrefectClient
) -> None:
    write_json(done.state() / "last-run.json", {"started": DUE, "commit": done.git_revision()[0]})
    done.params(lambda values: values["components"]["a"].update(width=4))
    done.params(lambda values: values["components"]["b"].update(fail=3))
    done.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "A wider | component")
    summary = drive(done)
    run = client.read_flow_runs(limit=1, sort="START_TIME_DESC")[0]  # type: ignore[arg-type]
    first = pages(client, str(run.id))[0]
    assert first["key"] == "about-this-run"
    page = first["data"]
    assert "since the last run (2027-01-15 08:00 UTC)" in page and "| `components.a.width` | `1` | `4` |" in page
    assert "A wider \\| component" in page and summary["commit"][:7] in page
    assert "**1 of 5 stages ran**" in page and "**1 failed**, so 2 did not run; no new champion." in page
    assert "### train@b failed" in page and "| `components.b.fail` |  | `3` |" in page
    assert "| train@a | ran |" in page and "params.yaml: components.a modified |" in page
    assert "## What the gate decided\n\nNothing" in page and "1 stage was up to date." in page
    assert summary["changes"]["parameters"]["components.a.width"] == (1, 4)


def test_status_tells_when_the_nightly_run_failed_died_or_is_overdue(done: Toy) -> None:
    assert nightly(done, DUE) is None
    own = processes.own_name()
    record = {"deployment": "pretrain/nightly", "scheduled": DUE, "started": DUE + 2, "process": own, "next": DUE + 9e4}

    def shown(now: float, **values: Any) -> tuple[Nightly, str]:
        write_json(done.state() / FILE, record | values)
        status = nightly(done, now)
        assert status is not None
        return status, "\n".join(status.lines())

    assert "no scheduled run is known in this clone" in schedule_problems(done, DUE)[0]
    status, text = shown(DUE + 60, state=RUNNING)
    assert status.problems() == []
    assert status.overdue_seconds == 0 and text.endswith("due 2027-01-15 08:00 UTC, running")
    status, text = shown(DUE + 60, state=RUNNING, process=own.rpartition(":")[0] + ":0-gone")
    assert status.state == DIED and "its process was killed" in text
    status, text = shown(DUE + 700, state=FAILED, message="train@a: out of memory", ended=DUE + 62)
    assert "failed after 1 min 0 s: train@a: out of memory" in text and "Next scheduled run" in text
    assert status.problems() == [text.splitlines()[0]]
    status, _ = shown(DUE + 700, state=FINISHED, next=None)
    assert "pretrain/nightly has no next run" in status.problems()[0]
    status, _ = shown(DUE + 700, state=FINISHED)
    assert status.problems() == []
    status, text = shown(DUE + 9e4 + LATE_SECONDS + 3600, state=FINISHED, ended=DUE + 62)
    assert status.overdue_seconds == LATE_SECONDS + 3600
    assert "OVERDUE: pretrain/nightly was due 2027-01-16 09:00 UTC, 1 h 15 min ago, and has not started" in text
    write_json(done.state() / FILE, {"deployment": "pretrain/nightly", "state": WAITING, "next": DUE})
    late = nightly(done, DUE + 1e4)
    assert late is not None and [line[:8] for line in late.lines()] == ["OVERDUE:"]
    write_json(done.state() / FILE, {"deployment": "pretrain/nightly", "state": WAITING, "next": time.time() - 1e4})
    checked = done.run("cclm", "status", "--check", check=False)
    assert checked.returncode == 1 and checked.stdout.startswith("OVERDUE: pretrain/nightly") and not checked.stderr
    write_json(done.state() / FILE, {"deployment": "pretrain/nightly", "state": WAITING, "next": time.time() + 60})
    assert done.run("cclm", "status", "--check").stdout == ""
    write_json(done.state() / FILE, {"deployment": "pretrain/nightly", "state": WAITING, "next": DUE})

    output = read_status(done).as_json()
    assert output["nightly"]["next"] == DUE and output["data"] is None


def test_a_scheduled_run_records_itself_and_a_failed_one_is_reported_once(
    done: Toy,
    client: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    received: tuple[str, list[Any]],
) -> None:
    address, messages = received
    outcome: list[Exception] = []

    @flow(name="pretrain")
    def run() -> None:
        with scheduled(done):
            if outcome:
                raise outcome[0]

    monkeypatch.setenv(alerts.VARIABLE, address)
    monkeypatch.chdir(done.root)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with pytest.raises(ConfigError, match=r"deployment pretrain/nightly not found in Prefect"):
        alerts.create_alerts(address)
    identity = client.create_flow(run)
    schedule = {"schedule": CronSchedule(cron="0 2 * * *", timezone="UTC"), "active": True}
    deployment = client.create_deployment(identity, "nightly", schedules=[schedule])  # type: ignore[list-item]
    client._client.post(
        f"/deployments/{deployment}/schedule", json={}
    )  # what a server with its services does by itself

    alerts.main()
    alerts.main()
    assert "secret" not in capsys.readouterr().out
    for name in (alerts.FAILED, alerts.LATE):
        [automation] = client.read_automations_by_name(name)
        assert automation.enabled and "secret" not in automation.model_dump_json()
        assert str(deployment) in automation.model_dump_json()
    waiting = nightly(done, time.time())
    assert waiting and waiting.state == WAITING and waiting.next and waiting.next > time.time()

    for error in (None, ValueError("the disk is full")):
        outcome[:] = [error] if error else []
        created = client.create_flow_run_from_deployment(deployment, tags=["auto-scheduled"])
        run_flow(run, flow_run=created, return_type="state")
        status = nightly(done, time.time())
        assert status and status.deployment == "pretrain/nightly" and status.next == waiting.next
        assert (status.state, status.message) == ((FAILED, "the disk is full") if error else (FINISHED, ""))
    assert wait_for(lambda: messages, 60)
    assert len(messages) == 1 and messages[0]["text"].startswith(f"{alerts.FAILED}\n")
    assert "is Failed. Flow run encountered an exception: ValueError: the disk is full" in messages[0]["text"]
    before = (done.root / ".cclm" / FILE).read_bytes()
    run(return_state=True)  # started by hand
    assert (done.root / ".cclm" / FILE).read_bytes() == before
    client.delete_deployment(deployment)


def test_an_invalid_webhook_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(alerts.VARIABLE, "hooks.example/secret")
    with pytest.raises(ConfigError, match=r"must be the address of a webhook") as raised:
        alerts.webhook()
    assert "secret" not in str(raised.value)
    for value in ("", "off"):
        monkeypatch.setenv(alerts.VARIABLE, value)
        assert alerts.webhook() is None


def test_the_alerts_are_about_the_scheduled_deployment() -> None:
    text = (Path(__file__).parents[2] / "prefect.yaml").read_text(encoding="utf-8")
    scheduled_ones = [entry["name"] for entry in yaml.safe_load(text)["deployments"] if entry.get("schedules")]
    assert scheduled_ones == [alerts.NIGHTLY.partition("/")[2]]
