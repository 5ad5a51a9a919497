"""The doctor: each problem is created for real, found, repaired, and not found again; live processes are left alone."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from cclm_core.runtime.artifacts import MANIFEST
from flows import environment, processes
from flows.doctor.catalogue import CHECKS
from flows.doctor.diagnosis import Result, diagnose
from flows.doctor.finding import Inspection
from flows.doctor.versions import is_broken
from flows.gate import overrides
from flows.tracking.client import connect
from flows.tracking.open_runs import abandoned, open_runs, record_opened
from flows.tracking.records import read_record
from tests.flows.conftest import TRAIN, Toy
from tests.flows.test_stage import running_child, wait_for

DEAD = f"{processes.split(processes.own_name())[0]}:4194999:1-dead"


@pytest.fixture
def patient(done: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """An up-to-date project without tracking, with this process's environment set as for its `cclm`."""
    monkeypatch.chdir(done.root)
    for name in [name for name in os.environ if name.startswith(("CCLM_", "MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)
    settings = {"CCLM_TRACKING": "off", "DVC_SITE_CACHE_DIR": str(done.root / ".cclm/dvc")}
    for name, value in {**environment.DEFAULTS, **settings}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREFECT_HOME", str(done.root / ".cclm/prefect"))
    connect.cache_clear()
    return done


def examine(project: Toy, *names: str, repair: bool = False) -> list[Result]:
    """The results of the named checks, or of all checks."""
    with pytest.MonkeyPatch.context() as patch:
        for name in set(CHECKS) - set(names or CHECKS):
            patch.setitem(CHECKS, name, lambda _: [])
        return diagnose(project, repair, lambda _name, _results: None)


def repaired(project: Toy, *names: str) -> list[Result]:
    """The results of these checks with repairs; every finding is repaired, and the checks then find nothing."""
    before = examine(project, *names)
    assert before and all(result.finding.remedy and not result.repaired for result in before)
    results = examine(project, *names, repair=True)
    assert [str(result.finding) for result in results] == [str(result.finding) for result in before]
    assert all(result.repaired for result in results), results
    assert examine(project, *names) == []
    return results


@pytest.mark.usefixtures("prefect_server")
def test_a_healthy_project_has_no_findings(patient: Toy) -> None:
    assert examine(patient) == []
    assert examine(patient, repair=True) == []


@pytest.mark.parametrize("content", ["", "schema: '2"])
def test_a_damaged_dvc_lock(patient: Toy, content: str) -> None:
    from flows.graph.lockfile import back_up

    whole = (patient.root / "dvc.lock").read_text()
    back_up(patient)
    (patient.root / "dvc.lock").write_text(content)
    repaired(patient, "dvc-lock-file")
    assert (patient.root / "dvc.lock").read_text() == whole


def test_dvc_locks_of_dead_processes(patient: Toy) -> None:
    path = patient.root / ".dvc/tmp/rwlock"
    living = {"pid": os.getpid(), "cmd": "dvc repro"}
    dead = {"pid": 4194999, "cmd": "dvc repro"}
    path.write_text(json.dumps({"write": {"a": dead, "b": living}, "read": {"c": [dead, living], "d": [dead]}}))
    (result,) = repaired(patient, "dvc-locks")
    assert "process 4194999" in result.finding.subject
    assert json.loads(path.read_text()) == {"write": {"b": living}, "read": {"c": [living]}}
    # Another process, younger than the list, has reused the pid.
    os.utime(path, (1, 1))
    repaired(patient, "dvc-locks")
    path.write_text("{half")
    repaired(patient, "dvc-locks")
    assert not path.exists()


@pytest.fixture
def orphan(patient: Toy) -> Iterator[psutil.Process]:
    """A stage without a runner, as after a SIGKILL of the runner."""
    report = patient.root / ".cclm/reports/train@a.jsonl"
    report.write_text("")
    patient.params(lambda values: values["components"]["a"].update(seconds=60))
    command = f"{sys.executable} -m toy_stages stage train a --corpus data/corpus --out models/a"
    subprocess.run(
        ["sh", "-c", f"{command} & echo $! > pid"],
        cwd=patient.root,
        env=patient.environment | {"CCLM_REPORT": str(report)},
        check=True,
    )
    process = psutil.Process(int((patient.root / "pid").read_text()))
    assert wait_for(lambda: report.read_text())
    yield process
    if process.is_running():
        process.kill()


def test_an_orphan_is_ended_only_with_repair(patient: Toy, orphan: psutil.Process) -> None:
    (result,) = examine(patient, "orphans")
    assert f"process {orphan.pid}, stage train a" in result.finding.subject
    assert orphan.is_running()
    repaired(patient, "orphans")
    assert wait_for(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)


def test_temporary_servers_of_dead_runs_are_ended_and_those_of_live_runs_are_not(patient: Toy) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", "prefect.server.api.server:create_app"]
    settings = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_HOME": str(patient.root / ".cclm/prefect")}
    orphaned, used = (
        subprocess.Popen(command, env=os.environ | settings | {processes.DRIVER_VARIABLE: driver})
        for driver in (DEAD, processes.own_name())
    )
    try:
        (result,) = repaired(patient, "prefect-servers")
        assert str(orphaned.pid) in result.finding.subject
        assert used.poll() is None
    finally:
        for process in (orphaned, used):
            process.kill()
            process.wait()


def test_leftovers_of_a_killed_writer(patient: Toy) -> None:
    models, content = patient.root / "models", (patient.root / "models/a/content.json").read_bytes()
    (models / "a").rename(models / ".a.old")  # as if killed between the two renames of publishing
    (models / ".a.writing").mkdir()
    (models / ".b.writing").mkdir()
    assert [result.finding.subject for result in repaired(patient, "half-written")] == ["models/a", "models/b"]
    assert (models / "a/content.json").read_bytes() == content
    assert not list(models.glob(".*.writing")) and not list(models.glob(".*.old"))


def test_an_output_that_is_being_written_is_left_alone(patient: Toy) -> None:
    from cclm_core.runtime.artifacts import publishing

    with publishing(patient.root / "models/a", "component") as folder:
        assert examine(patient, "half-written", repair=True) == []
        (folder / "content.json").write_text("{}")
    assert (patient.root / "models/a" / MANIFEST).is_file()


def test_a_damaged_checkpoint(patient: Toy) -> None:
    folder = patient.root / ".cclm/checkpoints/a/identity"
    folder.mkdir(parents=True)
    good, bad = (folder / f"step-{step:08d}-{hashlib.sha256(b'x').hexdigest()[:32]}.safetensors" for step in (1, 2))
    good.write_bytes(b"x")
    bad.write_bytes(b"y")
    (result,) = repaired(patient, "checkpoints")
    assert result.finding.subject.endswith(bad.name)
    assert list(folder.iterdir()) == [good]


def test_a_site_cache_that_other_users_can_write(patient: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine(patient, "site-cache") == []  # in .cclm, which is private
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o777)
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder))
        (result,) = repaired(patient, "site-cache")
        assert "CVE-2025-69872" in result.finding.problem
    finally:
        shutil.rmtree(folder)


def test_a_full_disk_and_incompatible_versions_are_reported(patient: Toy) -> None:
    lock = yaml.safe_load((patient.root / "dvc.lock").read_text())
    lock["stages"]["make"]["outs"][0]["size"] = 10**18
    (patient.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    (result,) = examine(patient, "disk-space", repair=True)
    assert not result.repaired and "MB are free" in result.finding.problem
    assert is_broken("fastapi", "0.155.0") and not is_broken("fastapi", "0.150.2")


@pytest.mark.slow
def test_outputs_missing_from_the_remote(patient: Toy, tmp_path: Path) -> None:
    patient.dvc("remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    (result,) = repaired(patient, "unpushed")
    assert "missing from it" in result.finding.problem
    assert "in sync" in patient.dvc("status", "--cloud").stdout
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(patient.root / ".dvc/cache")
    shutil.rmtree(patient.root / ".cclm/dvc")  # DVC's record of the remote's content
    (result,) = examine(patient, "unpushed", repair=True)
    assert not result.repaired and "both lack" in result.finding.problem


def test_a_failed_check_does_not_count_as_healthy(patient: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCLM_TRACKING", "on")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    results = examine(patient, "tracked-runs", "registered-models", repair=True)
    assert [result.finding.subject for result in results] == ["not checked"] * 2
    assert all("MLflow does not answer" in result.finding.problem for result in results)
    done = patient.run(sys.executable, "-m", "flows.cli", "doctor", "--json", check=False, **_environment())
    assert done.returncode == 1 and json.loads(done.stdout)["healthy"] is False


def _environment() -> dict[str, str]:
    names = ("CCLM_TRACKING", "MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    return {name: os.environ[name] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("by", ["doctor", "next run"])
def test_mlflow_runs_of_a_killed_stage_are_ended_with_all_reported_values(
    patient: Toy, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.recovery.sweep import sweep

    monkeypatch.setenv("CCLM_TRACKING", "on")
    patient.params(lambda values: values["components"]["a"].update(seconds=1200))
    (patient.root / ".cclm/reports/train@a.jsonl").unlink()
    runner = subprocess.Popen(
        [sys.executable, *TRAIN], cwd=patient.root, env=patient.environment | {"CCLM_TRACKING": "on"}
    )
    child = running_child(patient)
    assert wait_for(lambda: len(open_runs(patient)) == 2, 600)  # the stage's run and its parent

    # While the stage runs, nothing is touched.
    assert len(Inspection(patient).working) == 2
    assert examine(patient, "tracked-runs", "orphans", "half-written", repair=True) == []
    sweep(patient)
    assert child.is_running() and len(open_runs(patient)) == 2

    runner.kill()
    runner.wait()
    assert wait_for(lambda: not child.is_running())
    if by == "doctor":
        assert len(repaired(patient, "tracked-runs")) == 2
    else:
        sweep(patient)
        assert examine(patient, "tracked-runs") == []
    assert abandoned(patient, "mlflow") == []

    tracking = connect(patient)
    runs = tracking.client.search_runs([tracking.experiment_id])
    assert {run.info.status for run in runs} == {"KILLED"} and len(runs) == 2
    (stage,) = (run for run in runs if "dvc.stage" in run.data.tags)
    assert "was gone" in stage.data.tags["cclm.reason"]
    points = tracking.client.get_metric_history(stage.info.run_id, "loss")
    lines = (patient.root / ".cclm/reports/train@a.jsonl").read_text().splitlines()
    assert [point.step for point in points] == [json.loads(line)["step"] for line in lines]
    record = read_record(patient, "train@a")
    assert record and record.status == "KILLED" and record.run_id == stage.info.run_id


def test_flow_runs_and_slots_of_dead_processes(
    patient: Toy, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.states import Cancelling, Running

    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    with get_client(sync_client=True) as client:

        def start(state: object, pid: int | None) -> str:
            run = client.create_flow_run(flow(lambda: None, name="toy"), state=state)
            if pid:
                client.update_flow_run(run.id, infrastructure_pid=str(pid))
            return str(run.id)

        def state(run: str) -> str:
            return str(client.read_flow_run(run).state.type.value)

        dead, cancelled, noted, unknown = (
            start(Running(), 4194999),
            start(Cancelling(), 4194999),
            start(Running(), None),
            start(Running(), None),
        )
        record_opened(patient, "prefect", noted, prefect_server, DEAD)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
        try:
            time.sleep(1.5)
            alive = start(Running(), child.pid)
            name = f"devices-{patient.root.parent.name}"
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=2, active_slots=1))
            assert len(repaired(patient, "flow-runs")) == 3
            assert [state(run) for run in (dead, cancelled, noted)] == ["CRASHED"] * 3
            assert [state(run) for run in (alive, unknown)] == ["RUNNING"] * 2
            assert examine(patient, "slots") == []  # live runs may hold them
        finally:
            child.kill()
            child.wait()
        client.delete_flow_run(unknown)
        assert len(repaired(patient, "flow-runs", "slots")) == 2
        assert client.read_global_concurrency_limit_by_name(name).active_slots == 0


@pytest.mark.slow
def test_a_champion_with_damaged_files_is_replaced_by_its_predecessor(
    patient: Toy, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.gate import promote as promotion
    from flows.gate.gate import Verdict
    from tests.flows.test_promote import Promoter

    for module in (promotion, overrides):
        monkeypatch.setattr(module, "load_check", lambda _uri, _tracking: Verdict(True, ""))
    monkeypatch.setenv("CCLM_TRACKING", "on")
    shop = Promoter(patient, model)
    for number, f1 in ((1, 0.5), (2, 0.6)):
        shop.make(number, {"f1": f1})
        shop.promote()
        overrides.accept(shop.project, "both") if number == 1 else None
    assert (shop.alias("champion"), shop.alias("previous")) == ("2", "1")
    assert examine(patient, "registered-models") == []

    location = shop.client.get_model_version_download_uri("cclm-both", "2").removeprefix("file://")
    (Path(location) / "artifacts/both/number.json").write_text("3")
    (result,) = repaired(patient, "registered-models")
    assert result.finding.problem.endswith("number.json is altered")  # without the remedy for outputs of the pipeline
    assert "(champion, candidate)" in result.finding.subject
    assert "THE CHAMPION OF cclm-both IS NOW version 1 AGAIN" in result.done
    assert (shop.alias("champion"), shop.alias("candidate"), shop.alias("previous")) == ("1", None, None)
    assert shop.client.get_model_version("cclm-both", "2").tags["gate.result"] == "broken"

    # Its files in the project are intact, so it can be registered again.
    patient.dvc("commit", "-f", "-q")
    repaired(patient, "unregistered")
    assert shop.alias("candidate") == "3"
