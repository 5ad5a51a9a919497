"""The deployments of prefect.yaml with a real server and workers, one run at a time per clone."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from tests.flows.conftest import BIN, INTERRUPTIBLE, Toy
from tests.flows.test_stage import wait_for

REPOSITORY = Path(__file__).parents[2]
SECONDS = 600  # for each wait; a worker looks for work every ten seconds
TRAINING_SECONDS = 60  # longer than it takes to start a second run, also on a busy machine

pytestmark = pytest.mark.slow


@pytest.fixture
def deployed(done: Toy, prefect_server: str) -> Toy:
    """A toy project with the deployments of this repository."""
    text = (REPOSITORY / "prefect.yaml").read_text().replace("entrypoint: ", f"entrypoint: {REPOSITORY}/")
    (done.root / "prefect.yaml").write_text(text)
    done.environment.update({"PREFECT_API_URL": prefect_server, "DO_NOT_TRACK": "1"})
    for pool in ("cclm-cpu", "cclm-gpu"):
        prefect(done, "--no-prompt", "work-pool", "create", "--type", "process", "--overwrite", pool)
    prefect(done, "--no-prompt", "deploy", "--all")
    return done


@contextmanager
def worker(project: Toy, *words: str) -> Iterator[None]:
    """A worker in the project's clone."""
    command = [*INTERRUPTIBLE, str(BIN / "prefect"), "worker", "start", *words]  # on SIGTERM, it sends itself SIGINT
    process = subprocess.Popen(command, cwd=project.root, env=project.environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


def prefect(project: Toy, *words: str) -> str:
    return project.run(sys.executable, "-m", "prefect", *words).stdout


def until(condition: Callable[[], object]) -> None:
    assert wait_for(condition, SECONDS, every=0.5)


def start(name: str, **parameters: Any) -> UUID:
    from prefect.deployments import run_deployment

    return run_deployment(name, parameters=parameters, timeout=0, as_subflow=False).id  # type: ignore[union-attr]


def outcomes(project: Toy) -> dict[str, str]:
    summary = json.loads((project.root / ".cclm/last-run.json").read_text())
    return {row["stage"]: row["outcome"] for row in summary["stages"]}


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as server:
        yield server


def state(client: SyncPrefectClient, run: UUID) -> str:
    current = client.read_flow_run(run).state
    return current.name or "" if current else ""


def end(client: SyncPrefectClient, run: UUID) -> str:
    until(lambda: (current := client.read_flow_run(run).state) and current.is_final())
    return state(client, run)


def test_evaluating_on_demand_trains_nothing(deployed: Toy) -> None:
    deployed.params(lambda values: values.update(quality=0.75))
    with worker(deployed, "--pool", "cclm-cpu"):
        prefect(deployed, "deployment", "run", "evaluate/on-demand", "-p", 'compositions=["both"]', "--watch")
    assert outcomes(deployed) == {"compose@both": "unchanged", "evaluate@both": "ran"}


def test_a_second_nightly_run_is_canceled_and_a_second_retraining_waits(
    deployed: Toy, client: SyncPrefectClient
) -> None:
    with worker(deployed, "--pool", "cclm-gpu"):
        deployed.params(lambda values: values["components"]["b"].update(seconds=TRAINING_SECONDS, width=5))
        first = start("pretrain/nightly")
        until(lambda: state(client, first) == "Running")
        assert end(client, start("pretrain/nightly")) == "Cancelled"
        assert end(client, first) == "Completed"
        assert outcomes(deployed)["train@b"] == "ran" and outcomes(deployed)["train@a"] == "unchanged"

        first = start("retrain-component/on-demand", component="a", settings={"width": 6, "seconds": TRAINING_SECONDS})
        until(lambda: state(client, first) == "Running")
        second = start("retrain-component/on-demand", component="a", settings={"width": 7, "seconds": 0.5})
        until(lambda: state(client, second) == "AwaitingConcurrencySlot")
        assert (end(client, first), end(client, second)) == ("Completed", "Completed")
        assert json.loads((deployed.root / "models/a/content.json").read_text())["width"] == 7


def test_runs_of_different_deployments_wait_for_a_worker_with_limit_one(
    deployed: Toy, client: SyncPrefectClient
) -> None:
    with worker(deployed, "--pool", "cclm-gpu", "--limit", "1"):
        deployed.params(lambda values: values["components"]["b"].update(seconds=TRAINING_SECONDS, width=5))
        first = start("pretrain/nightly")
        until(lambda: state(client, first) == "Running")
        second = start("retrain-component/on-demand", component="a", force=True)
        assert (end(client, first), end(client, second)) == ("Completed", "Completed")
        assert outcomes(deployed)["train@a"] == "ran"
