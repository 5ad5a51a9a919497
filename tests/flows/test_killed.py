"""SIGKILL, for real, at every process of a run: the next run needs no repair by hand, and nothing stays RUNNING."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from flows.doctor.prefect_servers import APPLICATION
from flows.open_runs import open_runs
from flows.records import last_values
from tests.flows.conftest import Project
from tests.flows.test_stage import wait_for

RUN = [sys.executable, "-m", "flows.cli", "run", "--target", "train@a"]
WORDS = {"stage": "flows.stage", "trainer": "toy_stages", "dvc": "repro"}


def at_work(project: Project) -> list[psutil.Process]:
    """All processes of a project, Prefect's temporary server included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def start(project: Project) -> subprocess.Popen[bytes]:
    """`cclm run`, once its training reports and both of its runs are in MLflow."""
    project.params(lambda values: values["components"]["a"].update(width=5, seconds=20))
    (project.root / ".cclm/reports/train@a.jsonl").unlink()
    with (project.root / ".cclm/run.log").open("wb") as log:
        run = subprocess.Popen(RUN, cwd=project.root, env=project.environment, stdout=log, stderr=log)
    opened: Callable[[], bool] = lambda: [one.kind for one in open_runs(project.root)].count("mlflow") == 2  # noqa: E731
    assert wait_for(lambda: run.poll() is not None or (last_values(project.root, "train@a") and opened()), 240)
    assert run.poll() is None, (project.root / ".cclm/run.log").read_text()
    return run


def nothing_is_open(project: Project) -> None:
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cclm")
    assert experiment
    assert {run.info.status for run in client.search_runs([experiment.experiment_id])} <= {
        "KILLED",
        "FAILED",
        "FINISHED",
    }
    assert open_runs(project.root) == []
    assert wait_for(lambda: at_work(project) == [], 10), at_work(project)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["flow", "stage", "trainer", "dvc"])
def test_the_next_run_goes_on(done: Project, prefect_server: str, whom: str) -> None:
    from prefect.client.orchestration import get_client

    done.environment |= {"CCLM_TRACKING": "on", "PREFECT_API_URL": prefect_server}
    run = start(done)
    flow_runs = [one.id for one in open_runs(done.root) if one.kind == "prefect"]
    assert len(flow_runs) == 1
    if whom == "flow":
        run.kill()
    else:
        (victim,) = (one for one in at_work(done) if WORDS[whom] in one.cmdline() and "sh" not in one.name())
        victim.kill()
    run.wait(120)

    again = done.run(*RUN, "--json")
    assert {row["stage"]: row["outcome"] for row in json.loads(again.stdout)["stages"]}["train@a"] in (
        "ran",
        "unchanged",
    )
    nothing_is_open(done)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_runs[0]).state
        assert state.type.value == ("CRASHED" if whom == "flow" else state.type.value) and state.is_final()
    assert "was killed" in again.stderr if whom == "flow" else "was killed" not in again.stderr


@pytest.mark.slow
def test_a_temporary_server_does_not_outlive_the_next_look(done: Project) -> None:
    done.environment |= {"CCLM_TRACKING": "on"}
    run = start(done)
    run.kill()
    run.wait()

    def servers() -> list[psutil.Process]:
        return [one for one in at_work(done) if APPLICATION in one.cmdline()]

    assert len(servers()) == 1
    assert wait_for(lambda: len(at_work(done)) == 1)  # its stage has ended by itself
    doctor = [sys.executable, "-m", "flows.cli", "doctor", "--json"]
    found = json.loads(done.run(*doctor, check=False).stdout)["findings"]
    assert {"prefect-servers", "tracked-runs", "flow-runs"} <= {one["check"] for one in found}
    assert len(servers()) == 1
    done.run(*doctor, "--repair", check=False)
    assert wait_for(lambda: servers() == [])
    left = json.loads(done.run(*doctor, check=False).stdout)["findings"]
    assert {one["check"] for one in left} <= {"unregistered"}
    assert Path(done.root / ".cclm/open").is_dir()
    nothing_is_open(done)
