"""A stopped run leaves no process and no open run in MLflow, and the next run continues."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from mlflow.tracking import MlflowClient

from flows.tracking.open_runs import open_runs
from flows.tracking.records import last_values
from tests.flows.conftest import INTERRUPTIBLE, Toy
from tests.flows.test_stage import wait_for

SECONDS = 600  # for each wait: a run starts Prefect's server, which takes minutes on a busy machine


def is_training(project: Toy) -> bool:
    """Whether the training reports values, and the runs of the pipeline and of the training are open in MLflow."""
    return bool(last_values(project, "train@a")) and [run.kind for run in open_runs(project)].count("mlflow") >= 2


@pytest.mark.slow
@pytest.mark.parametrize(("number", "whole_group", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)])
def test_a_stopped_run_ends_everything(done: Toy, number: signal.Signals, whole_group: bool, code: int) -> None:
    done.params(lambda values: values["components"]["a"].update(width=5, seconds=2 * SECONDS))
    (done.root / ".cclm/reports/train@a.jsonl").unlink()
    run = subprocess.Popen(
        [*INTERRUPTIBLE, sys.executable, "-m", "flows.cli", "run"],
        cwd=done.root,
        env=done.environment | {"CCLM_TRACKING": "on"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert wait_for(lambda: run.poll() is not None or is_training(done), SECONDS) and run.poll() is None
        if whole_group:  # like Ctrl-C on a terminal
            os.killpg(run.pid, number)
        else:
            run.send_signal(number)
        output, _ = run.communicate(timeout=SECONDS)
    finally:
        run.kill()
    assert run.returncode == code, output
    assert "Traceback" not in output
    assert not [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(done.root)]
    client = MlflowClient(f"sqlite:///{done.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cclm")
    assert experiment
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} >= {"train@a"} and {run.info.status for run in runs} == {"KILLED"}

    done.params(lambda values: values["components"]["a"].update(seconds=0.1))
    done.dvc("repro")
    assert "up to date" in done.dvc("status").stdout
