"""The real stack on a toy project: a schedule fires by itself, what it registers is served, and nothing is left."""

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
from infra.stack.processes import members
from infra.stack.settings import read_conf
from tests.flows.conftest import BIN, Toy
from tests.infra.test_stack import free_port

if TYPE_CHECKING:  # Prefect reads the environment, which the stack completes, when it is imported
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

REPOSITORY = Path(__file__).parents[2]
SECONDS = 900  # for each wait: starting three servers takes half a minute, or minutes beside other work

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def until(answer: Callable[[], object]) -> object:
    """Asks until the answer is something; a server that is not there yet is asked again."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if found := answer():
                return found
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
    """The pid of a service, 0 if it does not run."""
    services = status(project.root / ".cclm/stack")["services"]
    return next(int(one["pid"]) for one in services if one["name"] == name) if services else 0


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
        ran = until(lambda: completed(client))
        assert isinstance(ran, dict) and all(run.auto_scheduled for run in ran.values())
        # The server dies: supervisord restarts it, and the workers go on.
        psutil.Process(prefect).kill()
        until(lambda: is_back(stack, "prefect", prefect))
        until(lambda: completed(client).keys() - ran.keys())
    assert pid(stack, "worker-cpu") == worker
    versions = MlflowClient().search_model_versions("name = 'cclm-both'")
    assert [version.version for version in versions] == ["1"]
    # The worker dies while a flow trains: it is restarted, and the flow goes on.
    stack.params(lambda values: values["components"]["a"].update(width=9, seconds=20))
    with get_client(sync_client=True) as client:
        at_work = until(lambda: (found := read_record(stack, "train@a")) and found.running and running(client))
        psutil.Process(worker).kill()
        until(lambda: is_back(stack, "worker-cpu", worker))
        until(lambda: at_work in completed(client))
    assert json.loads((stack.root / "models/a/content.json").read_text())["width"] == 9
    experiment = MlflowClient().get_experiment_by_name("cclm")
    assert experiment and experiment.artifact_location.startswith("mlflow-artifacts:")
    answers_as_a_server(stack)


def completed(client: "SyncPrefectClient") -> "dict[UUID, FlowRun]":
    return {run.id: run for run in client.read_flow_runs() if run.state and run.state.is_completed()}


def running(client: "SyncPrefectClient") -> UUID | None:
    return next((run.id for run in client.read_flow_runs() if run.state and run.state.is_running()), None)


def answers_as_a_server(stack: Toy) -> None:
    """`cclm serve`: texts in, embeddings out; rows of characters on demand; a wrong question is refused by name."""
    port = free_port()
    words = ["serve", "both", "--alias", "candidate", "--port", str(port)]
    variables = stack.environment | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    served = subprocess.Popen([sys.executable, "-m", "flows.cli", *words], cwd=stack.root, env=variables)
    try:
        until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=30).status == 200)

        def ask(question: object) -> tuple[int, str]:
            asked = urllib.request.Request(
                f"http://127.0.0.1:{port}/invocations",
                json.dumps(question).encode(),
                {"Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(asked, timeout=300) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        code, text = ask({"inputs": ["Give me excess", ""]})
        first, empty = json.loads(text)["predictions"]
        assert code == 200 and len(first) == len(empty) > 0 and any(first) and not any(empty)
        by_table = ask({"dataframe_split": {"columns": ["text"], "data": [["Give me excess"], [""]]}})
        assert json.loads(by_table[1])["predictions"] == [first, empty]
        rows = json.loads(ask({"inputs": ["ab", ""], "params": {"output": "characters"}})[1])["predictions"]
        assert [len(row) for row in rows] == [2, 0] and len(rows[0][0]) == len(first)
        code, text = ask({"inputs": ["ab"], "params": {"output": "nonsense"}})
        assert code == 400 and "output must be one of mean, characters" in text
    finally:
        served.terminate()
        served.wait(60)
