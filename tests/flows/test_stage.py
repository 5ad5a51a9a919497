"""The stage runner passes on the exit code of its child, records the run, and leaves no child process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from flows.run.stage_runner import stage_name
from flows.tracking.records import last_values, read_record
from tests.flows.conftest import TRAIN, Toy


def wait_for(condition: Callable[[], object], seconds: float = 120, every: float = 0.05) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(every)
    return False


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["stage", "base", "--params", "params.yaml"], "base"),
        (["stage", "compose", "full", "--part", "a"], "compose@full"),
        (["other"], "other"),
        ([], "stage"),
    ],
)
def test_the_name_of_a_stage(monkeypatch: pytest.MonkeyPatch, arguments: list[str], name: str) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert stage_name(arguments) == name
    monkeypatch.setenv("DVC_STAGE", "../dvc.yaml:pretrain@x")
    assert stage_name(arguments) == "pretrain@x"


def test_a_run_is_recorded_with_its_reports(project: Toy) -> None:
    project.run(sys.executable, *TRAIN)
    record = read_record(project, "train@a")
    assert record and record.status == "FINISHED" and record.exit_code == 0
    assert record.ended and record.ended - record.started >= 0.5
    assert record.command == ("toy_stages", *TRAIN[4:])
    assert len(record.commit) == 40 and not record.dirty
    assert last_values(project, "train@a") == {"loss": 0.2}
    project.run(sys.executable, *TRAIN)
    assert len((project.root / ".cclm/reports/train@a.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("code", [1, 2])
def test_exit_code_and_message_come_from_the_child(project: Toy, code: int) -> None:
    project.params(lambda values: values["components"]["a"].update(fail=code))
    done = project.run(sys.executable, *TRAIN, check=False)
    assert done.returncode == code
    assert "error: the toy component a failed on purpose" in done.stderr
    record = read_record(project, "train@a")
    assert record and record.status == "FAILED" and record.exit_code == code and record.dirty
    assert record.message == "error: the toy component a failed on purpose"
    assert not (project.root / "models/a").exists()


def test_the_exit_code_of_a_child_ended_by_a_signal(project: Toy) -> None:
    (project.root / ".cclm").mkdir(exist_ok=True)
    (project.root / ".cclm/crash-a").touch()
    assert project.run(sys.executable, *TRAIN, check=False).returncode == 128 + signal.SIGABRT


@pytest.fixture
def slow(project: Toy) -> Toy:
    project.params(lambda values: values["components"]["a"].update(seconds=60))
    return project


def running_child(project: Toy) -> psutil.Process:
    """The process of the toy stage, when it has started to report."""
    assert wait_for(lambda: last_values(project, "train@a"))
    matches = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if (process.info["cmdline"] or [])[1:3] == ["-m", "toy_stages"] and process.info["cwd"] == str(project.root)
    ]
    assert len(matches) == 1
    return matches[0]


def test_sigterm_is_passed_on_and_recorded(slow: Toy) -> None:
    runner = subprocess.Popen([sys.executable, *TRAIN], cwd=slow.root, env=slow.environment)
    child = running_child(slow)
    runner.terminate()
    assert runner.wait(120) == 128 + signal.SIGTERM
    assert not child.is_running()
    record = read_record(slow, "train@a")
    assert record and record.status == "KILLED"


def test_killing_the_runner_ends_its_child(slow: Toy) -> None:
    runner = subprocess.Popen([sys.executable, *TRAIN], cwd=slow.root, env=slow.environment)
    child = running_child(slow)
    runner.kill()
    runner.wait()
    assert wait_for(lambda: not child.is_running())


def test_a_stage_ends_when_its_dvc_is_killed(slow: Toy) -> None:
    slow.dvc("repro", "make")
    dvc = subprocess.Popen(["dvc", "repro", "-s", "train@a"], cwd=slow.root, env=slow.environment)
    child = running_child(slow)
    assert psutil.Process(child.pid).ppid() != dvc.pid
    os.kill(dvc.pid, signal.SIGKILL)
    dvc.wait()
    assert wait_for(lambda: not child.is_running())
    assert wait_for(lambda: (record := read_record(slow, "train@a")) and record.status == "KILLED")


def test_a_stage_ends_when_its_flow_is_killed(slow: Toy) -> None:
    slow.dvc("repro", "make")
    code = "import os, subprocess; from flows import processes\n"
    code += "os.environ[processes.DRIVER_VARIABLE] = processes.own_name()\n"
    code += "subprocess.run(['dvc', 'repro', '-s', 'train@a'])"
    flow = subprocess.Popen([sys.executable, "-c", code], cwd=slow.root, env=slow.environment)
    child = running_child(slow)
    flow.kill()
    flow.wait()
    assert wait_for(lambda: not child.is_running())
    assert wait_for(lambda: (record := read_record(slow, "train@a")) and record.status == "KILLED")
    slow.params(lambda values: values["components"]["a"].update(seconds=0.1))
    slow.dvc("--wait-for-lock", "repro", "-s", "train@a")  # no lock is left


def test_an_unreachable_mlflow_is_a_warning_and_does_not_fail_the_stage(project: Toy) -> None:
    done = project.run(
        sys.executable,
        *TRAIN,
        CCLM_TRACKING="on",
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )
    assert (project.root / "models/a/manifest.json").is_file()
    assert done.stderr.count("warning: train@a is not tracked in MLflow") == 1
    assert "parameters, learning curves, results and digests were not logged" in done.stderr
    record = read_record(project, "train@a")
    assert record and record.status == "FINISHED" and record.run_id is None
