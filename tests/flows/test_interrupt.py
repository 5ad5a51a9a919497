"""A stopped run leaves no process and no open run in MLflow, and the next run continues."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from mlflow.tracking import MlflowClient

from flows.tracking.records import last_values
from tests.flows.conftest import Toy


@pytest.mark.slow
@pytest.mark.parametrize(("number", "whole_group", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)])
def test_a_stopped_run_ends_everything(done: Toy, number: signal.Signals, whole_group: bool, code: int) -> None:
    done.params(lambda values: values["components"]["a"].update(width=5, seconds=300))
    (done.root / ".cclm/reports/train@a.jsonl").unlink()
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run"],
        cwd=done.root,
        env=done.environment | {"CCLM_TRACKING": "on"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        end = time.monotonic() + 120
        while not last_values(done, "train@a"):
            assert time.monotonic() < end and run.poll() is None
            time.sleep(0.2)
        time.sleep(2)  # until the run is in MLflow
        if whole_group:  # like Ctrl-C on a terminal
            os.killpg(run.pid, number)
        else:
            run.send_signal(number)
        output, _ = run.communicate(timeout=60)
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
