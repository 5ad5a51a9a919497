"""The real stack on a toy project: a scheduled run starts, its model is served, and no process is left."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import psutil
import pytest
import yaml

from flows import environment
from flows.project import Project
from flows.tracking.records import read_record
from infra.stack.__main__ import status
from infra.stack.keeper import members
from infra.stack.settings import read_conf
from tests.flows.conftest import BIN, Toy
from tests.infra.test_stack import free_port

if TYPE_CHECKING:  # Prefect reads the environment at its import, before the stack has set it
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

REPOSITORY = Path(__file__).parents[2]
SECONDS = 900  # for each wait: starting three servers takes half a minute, or minutes on a busy machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def until(condition: Callable[[], object]) -> object:
    """Waits until the condition is true and returns its value; connection errors count as false."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if value := condition():
                return value
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.fixture
def stack(project: Toy, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    (project.root / "infra").mkdir()
    (project.root / "infra/stack.conf").write_text((REPOSITORY / "infra/stack.conf").read_text())
    variables = {"TOY_MODEL": str(model), "PYTHONPATH": str(REPOSITORY)}
    deployment = {
        "name": "nightly",
        "entrypoint": f"{REPOSITORY}/flows/run/pipeline.py:pretrain",
        "work_pool": {"name": "cclm-cpu", "job_variables": {"env": variables, "stream_output": False}},
        "schedules": [{"interval": 60}],
        "concurrency_limit": 1,
    }
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(project.root)}}
    (project.root / "prefect.yaml").write_text(yaml.safe_dump({"pull": [step], "deployments": [deployment]}))
    names = read_conf(REPOSITORY / "infra/stack.conf")["settings"]
    project.environment.update({name: str(free_port()) for name in names if name.endswith("_PORT")})
    project.environment.update({"CCLM_DATABASE_URL": "sqlite", "PYTHONPATH": str(REPOSITORY)})
    project.environment.pop("CCLM_TRACKING")
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "MLFLOW_")):
            monkeypatch.delenv(name)
    yield project
    run(project, "down")
    assert members(project.root / ".cclm/stack") == []


def run(project: Toy, *words: str) -> str:
    return project.run(sys.executable, "-m", "infra.stack", *words).stdout


def pid(project: Toy, name: str) -> int:
    """The pid of a service; 0 if it is not running."""
    services = {service["name"]: service["pid"] for service in status(project.root / ".cclm/stack")["services"]}
    return int(services.get(name, 0))


def is_back(project: Toy, name: str, old: int) -> bool:
    """Whether a service has a new process."""
    return pid(project, name) not in (0, old)


def test_schedule_restart_registration_and_serving(stack: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    run(stack, "up")
    for name, value in environment.stack_defaults(Project(stack.root)).items():
        monkeypatch.setenv(name, value)
    prefect, worker = pid(stack, "prefect"), pid(stack, "worker-cpu")
    from mlflow.tracking import MlflowClient
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        assert {pool.name for pool in client.read_work_pools()} == {"cclm-cpu", "cclm-gpu"}
        assert client.read_global_concurrency_limit_by_name("cclm-devices").limit > 0
        runs = until(lambda: completed(client))
        assert isinstance(runs, dict) and all(run.auto_scheduled for run in runs.values())
        # The server dies: supervisord restarts it, and the workers continue.
        psutil.Process(prefect).kill()
        until(lambda: is_back(stack, "prefect", prefect))
        until(lambda: completed(client).keys() - runs.keys())
    assert pid(stack, "worker-cpu") == worker
    versions = MlflowClient().search_model_versions("name = 'cclm-both'")
    assert [version.version for version in versions] == ["1"]
    # The worker dies during a training: it is restarted, and the flow continues.
    stack.params(lambda values: values["components"]["a"].update(width=9, seconds=20))
    with get_client(sync_client=True) as client:
        run_id = until(lambda: (record := read_record(stack, "train@a")) and record.running and running(client))
        psutil.Process(worker).kill()
        until(lambda: is_back(stack, "worker-cpu", worker))
        until(lambda: run_id in completed(client))
    assert json.loads((stack.root / "models/a/content.json").read_text())["width"] == 9
    experiment = MlflowClient().get_experiment_by_name("cclm")
    assert experiment and experiment.artifact_location.startswith("mlflow-artifacts:")
    check_serving(stack)


def completed(client: "SyncPrefectClient") -> "dict[UUID, FlowRun]":
    return {run.id: run for run in client.read_flow_runs() if run.state and run.state.is_completed()}


def running(client: "SyncPrefectClient") -> UUID | None:
    return next((run.id for run in client.read_flow_runs() if run.state and run.state.is_running()), None)


def check_serving(stack: Toy) -> None:
    """`cclm serve` embeds texts with the candidate, and rejects a wrong field by name."""
    port = free_port()
    words = ["serve", "both@candidate", "--port", str(port)]
    variables = stack.environment | {"PATH": f"{BIN}:{os.environ['PATH']}", "CCLM_SERVE_TOKEN": "a-token-for-the-test"}
    server = subprocess.Popen([sys.executable, "-m", "flows.cli", *words], cwd=stack.root, env=variables)
    try:
        until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=30).status == 200)

        def post(body: object) -> tuple[int, str]:
            headers = {"Authorization": f"Bearer {variables['CCLM_SERVE_TOKEN']}"}
            request = urllib.request.Request(f"http://127.0.0.1:{port}/embed", json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=300) as response:
                    return response.status, response.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        code, text = post({"texts": ["Give me excess", ""]})
        first, empty = json.loads(text)["embeddings"]
        assert code == 200 and len(first) == len(empty) > 0 and any(first) and not any(empty)
        code, text = post({"texts": ["ab", 5]})
        assert code == 422 and "`texts[1]` must be a string" in text
    finally:
        server.terminate()
        server.wait(SECONDS)
