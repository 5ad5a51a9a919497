"""The doctor: each illness is made for real, found, mended, and not found again; what is alive is left alone."""

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
from tests.flows.conftest import Toy
from tests.flows.test_stage import running_child, wait_for

DEAD = f"{processes.split(processes.own_name())[0]}:4194999:1-dead"


@pytest.fixture
def patient(done: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A project that is up to date and not tracked, and this process's environment that of its `cclm`."""
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
    """What these checks find and do; all of them when none is named."""
    with pytest.MonkeyPatch.context() as patch:
        for name in set(CHECKS) - set(names or CHECKS):
            patch.setitem(CHECKS, name, lambda _: [])
        return diagnose(project, repair, lambda _name, _found: None)


def mended(project: Toy, *names: str) -> list[Result]:
    """What they mend; nothing is left, and a second look finds nothing."""
    found = examine(project, *names)
    assert found and all(result.finding.remedy and not result.repaired for result in found)
    results = examine(project, *names, repair=True)
    assert [str(one.finding) for one in results] == [str(one.finding) for one in found]
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
    mended(patient, "dvc-lock-file")
    assert (patient.root / "dvc.lock").read_text() == whole


def test_dvc_locks_of_dead_processes(patient: Toy) -> None:
    path = patient.root / ".dvc/tmp/rwlock"
    living = {"pid": os.getpid(), "cmd": "dvc repro"}
    dead = {"pid": 4194999, "cmd": "dvc repro"}
    path.write_text(json.dumps({"write": {"a": dead, "b": living}, "read": {"c": [dead, living], "d": [dead]}}))
    (result,) = mended(patient, "dvc-locks")
    assert "process 4194999" in result.finding.subject
    assert json.loads(path.read_text()) == {"write": {"b": living}, "read": {"c": [living]}}
    # Its number belongs to another process by now, which is younger than the list.
    os.utime(path, (1, 1))
    mended(patient, "dvc-locks")
    path.write_text("{half")
    mended(patient, "dvc-locks")
    assert not path.exists()


@pytest.fixture
def orphan(patient: Toy) -> Iterator[psutil.Process]:
    """A stage whose runner has gone, as after a SIGKILL where the kernel tells no one."""
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


def test_an_orphan_is_named_and_ended_only_when_told_to(patient: Toy, orphan: psutil.Process) -> None:
    (found,) = examine(patient, "orphans")
    assert f"process {orphan.pid}, stage train a" in found.finding.subject
    assert orphan.is_running()
    mended(patient, "orphans")
    assert wait_for(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)


def test_a_temporary_server_of_a_dead_run_is_ended_and_of_a_living_one_not(patient: Toy) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)", "prefect.server.api.server:create_app"]
    settings = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT_HOME": str(patient.root / ".cclm/prefect")}
    left, used = (
        subprocess.Popen(command, env=os.environ | settings | {processes.DRIVER_VARIABLE: driver})
        for driver in (DEAD, processes.own_name())
    )
    try:
        (result,) = mended(patient, "prefect-servers")
        assert str(left.pid) in result.finding.subject
        assert used.poll() is None
    finally:
        for process in (left, used):
            process.kill()
            process.wait()


def test_what_a_killed_writer_left_beside_an_output(patient: Toy) -> None:
    models, content = patient.root / "models", (patient.root / "models/a/content.json").read_bytes()
    (models / "a").rename(models / ".a.old")  # killed between moving the old one away and the new one in
    (models / ".a.writing").mkdir()
    (models / ".b.writing").mkdir()
    assert [result.finding.subject for result in mended(patient, "half-written")] == ["models/a", "models/b"]
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
    (result,) = mended(patient, "checkpoints")
    assert result.finding.subject.endswith(bad.name)
    assert list(folder.iterdir()) == [good]


def test_a_site_cache_that_others_can_write(patient: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine(patient, "site-cache") == []  # below .cclm, which is closed to others
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o777)
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder))
        (result,) = mended(patient, "site-cache")
        assert "CVE-2025-69872" in result.finding.problem
    finally:
        shutil.rmtree(folder)


def test_a_full_disk_and_unknown_versions_are_told(patient: Toy) -> None:
    lock = yaml.safe_load((patient.root / "dvc.lock").read_text())
    lock["stages"]["make"]["outs"][0]["size"] = 10**18
    (patient.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    (result,) = examine(patient, "disk-space", repair=True)
    assert not result.repaired and "MB are free" in result.finding.problem
    assert is_broken("fastapi", "0.155.0") and not is_broken("fastapi", "0.150.2")


@pytest.mark.slow
def test_what_was_not_pushed(patient: Toy, tmp_path: Path) -> None:
    patient.dvc("remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    (result,) = mended(patient, "unpushed")
    assert "lacks" in result.finding.problem
    assert "in sync" in patient.dvc("status", "--cloud").stdout
    shutil.rmtree(tmp_path / "store")
    shutil.rmtree(patient.root / ".dvc/cache")
    shutil.rmtree(patient.root / ".cclm/dvc")  # where DVC remembers what the remote has
    (result,) = examine(patient, "unpushed", repair=True)
    assert not result.repaired and "neither has" in result.finding.problem


def test_what_cannot_be_checked_is_no_health(patient: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCLM_TRACKING", "on")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    results = examine(patient, "tracked-runs", "registered-models", repair=True)
    assert [result.finding.subject for result in results] == ["not checked"] * 2
    assert all("MLflow does not answer" in result.finding.problem for result in results)
    told = patient.run(sys.executable, "-m", "flows.cli", "doctor", "--json", check=False, **_environment())
    assert told.returncode == 1 and json.loads(told.stdout)["healthy"] is False


def _environment() -> dict[str, str]:
    names = ("CCLM_TRACKING", "MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    return {name: os.environ[name] for name in names}


TRAIN = [
    "-m",
    "flows.stage",
    "--module",
    "toy_stages",
    "stage",
    "train",
    "a",
    "--corpus",
    "data/corpus",
    "--out",
    "models/a",
]


@pytest.mark.slow
@pytest.mark.parametrize("by", ["doctor", "next run"])
def test_runs_in_mlflow_of_a_killed_stage_are_ended_with_all_that_was_reported(
    patient: Toy, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.recovery.sweep import sweep

    monkeypatch.setenv("CCLM_TRACKING", "on")
    patient.params(lambda values: values["components"]["a"].update(seconds=120))
    (patient.root / ".cclm/reports/train@a.jsonl").unlink()
    runner = subprocess.Popen(
        [sys.executable, *TRAIN], cwd=patient.root, env=patient.environment | {"CCLM_TRACKING": "on"}
    )
    child = running_child(patient)
    assert wait_for(lambda: len(open_runs(patient)) == 2, 120)  # the stage's run and the one above it

    # While it works nothing is touched.
    assert len(Inspection(patient).working) == 2
    assert examine(patient, "tracked-runs", "orphans", "half-written", repair=True) == []
    sweep(patient)
    assert child.is_running() and len(open_runs(patient)) == 2

    runner.kill()
    runner.wait()
    assert wait_for(lambda: not child.is_running())
    if by == "doctor":
        assert len(mended(patient, "tracked-runs")) == 2
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
            assert len(mended(patient, "flow-runs")) == 3
            assert [state(run) for run in (dead, cancelled, noted)] == ["CRASHED"] * 3
            assert [state(run) for run in (alive, unknown)] == ["RUNNING"] * 2
            assert examine(patient, "slots") == []  # runs that live may hold them
        finally:
            child.kill()
            child.wait()
        client.delete_flow_run(unknown)
        assert len(mended(patient, "flow-runs", "slots")) == 2
        assert client.read_global_concurrency_limit_by_name(name).active_slots == 0


@pytest.mark.slow
def test_a_champion_whose_files_are_gone_falls_back_loudly(
    patient: Toy, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.gate import promote as promotion
    from flows.gate.gate import Verdict
    from tests.flows.test_promote import Promoter

    monkeypatch.setattr(promotion, "probe", lambda _uri, _tracking: Verdict(True, ""))
    monkeypatch.setenv("CCLM_TRACKING", "on")
    shop = Promoter(patient, model)
    for number, f1 in ((1, 0.5), (2, 0.6)):
        shop.make(number, {"f1": f1})
        shop.promote()
        overrides.accept(shop.project, "both") if number == 1 else None
    assert (shop.alias("champion"), shop.alias("previous")) == ("2", "1")
    assert examine(patient, "registered-models") == []

    place = shop.client.get_model_version_download_uri("cclm-both", "2").removeprefix("file://")
    (Path(place) / "artifacts/both/number.json").write_text("3")
    (result,) = mended(patient, "registered-models")
    assert "number.json is altered" in result.finding.problem and "(champion, candidate)" in result.finding.subject
    assert "THE CHAMPION OF cclm-both IS NOW version 1 AGAIN" in result.done
    assert (shop.alias("champion"), shop.alias("candidate"), shop.alias("previous")) == ("1", None, None)
    assert shop.client.get_model_version("cclm-both", "2").tags["gate.result"] == "broken"

    # Its files in the project are whole, so it can be registered anew.
    patient.dvc("commit", "-f", "-q")
    mended(patient, "unregistered")
    assert shop.alias("candidate") == "3"
