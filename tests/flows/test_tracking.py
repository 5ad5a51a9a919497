"""MLflow gets one run for the pipeline and one per stage that ran, from Prefect and from bare DVC."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow.tracking import MlflowClient

from cclm_core.runtime.artifacts import folder_digest
from flows.graph.node import flatten
from flows.tracking.client import connect
from flows.tracking.parents import DvcParent
from tests.flows.conftest import Drive, Toy

ALL = ["compose@both", "evaluate@both", "train@a", "train@b"]


REPORT = """
  report:
    cmd: python -m flows.stage --module toy_stages stage report --out report
    deps: [results]
    outs: [report]
    meta: {summary: true}
"""


@pytest.fixture
def tracked(done: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A project with tracking on, whose next run has four stages to run."""
    monkeypatch.setitem(done.environment, "CCLM_TRACKING", "on")
    monkeypatch.setitem(done.environment, "MLFLOW_DISABLE_TELEMETRY", "true")
    done.params(lambda values: [component.update(width=9) for component in values["components"].values()])
    done.params(lambda values: values.update(quality=0.75))
    return done


def runs(project: Toy) -> tuple[MlflowClient, list[Any], dict[str, Any]]:
    """The client, the runs of pipelines, and the runs of stages by stage name."""
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cclm")
    assert experiment
    all_runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in all_runs if "cclm.driver" in run.data.tags]
    stages = [run for run in all_runs if "dvc.stage" in run.data.tags and run.data.tags["cclm.kind"] != "promotion"]
    assert len({run.data.tags["dvc.stage"] for run in stages}) == len(stages)
    return client, parents, {run.data.tags["dvc.stage"]: run for run in stages}


def check_parent(client: MlflowClient, project: Toy, parent: Any, driver: str) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project.root, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert parent.data.tags["cclm.driver"] == driver and parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.source.git.commit"] == commit
    what = {"prefect": "run", "dvc": "dvc repro"}[driver]
    changed = "components.a.width=9, components.b.width=9, quality=0.75"
    assert parent.info.run_name[16:] == f" · {what} · {changed}"
    assert parent.data.tags["cclm.dirty"] == "true"  # params.yaml was changed
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} >= {"dvc.lock", "params.yaml", "dvc.yaml"}
    assert parent.data.metrics == {"both/f1": 0.75, "both/nested.bits": 0.25}


def check_stages(client: MlflowClient, project: Toy, parent: Any, stages: dict[str, Any]) -> None:
    for name, run in stages.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.run_name == name and run.info.status == "FINISHED"
        assert run.data.metrics["system/duration_seconds"] > 0
    train = stages["train@a"]
    assert train.data.tags["cclm.kind"] == "component"
    assert train.data.params == {"components.a.width": "9", "components.a.seconds": "0.5"}
    assert train.data.metrics["width"] == 9
    curve = client.get_metric_history(train.info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(step, 1 / step) for step in range(1, 6)]
    assert train.data.tags["digest.out.models/a"] == folder_digest(project.root / "models/a")
    digests = json.loads(Path(client.download_artifacts(train.info.run_id, "digests.json")).read_text())
    assert digests["read"]["data/corpus"] == folder_digest(project.root / "data/corpus")
    assert "Output: `models/a`" in train.data.tags["mlflow.note.content"]
    (source,) = train.inputs.dataset_inputs
    assert source.dataset.name == "data/corpus"
    assert source.dataset.digest == folder_digest(project.root / "data/corpus")[:36]
    logged = {item.path for item in client.list_artifacts(train.info.run_id)}
    logged -= {"component.json"}  # only real components have it
    assert logged == {"content.json", "curve.csv", "digests.json", "metrics.json"}
    assert stages["evaluate@both"].data.metrics["nested.bits"] == 0.25


def check_dvc_shows_the_same(project: Toy, run: Any) -> None:
    """Every cell of `dvc metrics show` and `dvc exp show` is a metric of the evaluation's run in MLflow."""
    shown = json.loads(project.dvc("metrics", "show", "--json").stdout)[""]["data"]
    cells = {path: flatten(entry["data"]) for path, entry in shown.items()}
    assert list(cells) == ["results/both.json"]
    assert cells["results/both.json"] == {
        name: value for name, value in run.data.metrics.items() if not name.startswith("system/")
    }
    experiments = json.loads(project.dvc("exp", "show", "--json").stdout)
    workspace = next(row for row in experiments if row["rev"] == "workspace")
    assert flatten(workspace["data"]["metrics"]["results/both.json"]["data"]) == cells["results/both.json"]


@pytest.mark.slow
def test_under_bare_dvc(tracked: Toy) -> None:
    tracked.dvc("repro", "-s", "train@a", "evaluate@both")
    client, (parent,), stages = runs(tracked)
    assert sorted(stages) == ["evaluate@both", "train@a"]
    check_parent(client, tracked, parent, "dvc")
    check_stages(client, tracked, parent, stages)
    check_dvc_shows_the_same(tracked, stages["evaluate@both"])


def test_under_the_flow(tracked: Toy, drive: Drive, model: Path) -> None:
    with (tracked.root / "dvc.yaml").open("a") as stream:
        stream.write(REPORT)
    drive(tracked, TOY_MODEL=str(model))
    client, (parent,), stages = runs(tracked)
    assert sorted(stages) == sorted([*ALL, "report"])
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "both.html"} <= names  # with the facts of the run, and the pages next to it
    registering = client.get_model_version("cclm-both", "1").run_id
    page = client.download_artifacts(registering, "report.html", str(tracked.root / ".cclm"))
    assert Path(page).read_text() == "the page of both"
    check_parent(client, tracked, parent, "prefect")
    check_stages(client, tracked, parent, stages)
    lock = client.download_artifacts(parent.info.run_id, "dvc.lock", str(tracked.root / ".cclm"))
    assert Path(lock).read_bytes() == (tracked.root / "dvc.lock").read_bytes()

    assert {row["outcome"] for row in drive(tracked)["stages"]} == {"unchanged"}
    assert len(runs(tracked)[1]) == 1, "a run without work must not create a run in MLflow"


def test_a_failed_stage_fails_its_run_and_the_run_of_the_pipeline(tracked: Toy, drive: Drive) -> None:
    tracked.params(lambda values: values["components"]["a"].update(fail=2))
    drive(tracked, ["train@a"])
    _, (parent,), stages = runs(tracked)
    assert parent.info.status == "FAILED" and stages["train@a"].info.status == "FAILED"
    assert "failed on purpose" in stages["train@a"].data.tags["cclm.message"]


def test_stages_of_one_dvc_process_share_a_parent_with_their_worst_status(
    project: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(project.root / ".cclm/dvc"))
    monkeypatch.setenv("PREFECT_HOME", str(project.root / ".cclm/prefect"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking = connect(project)

    def status() -> str:
        return str(tracking.client.get_run(parent).info.status)

    def run_stage(end_status: str) -> None:
        assert DvcParent(tracking, project, psutil.Process()).start() == parent
        assert status() == "RUNNING"
        DvcParent(tracking, project, psutil.Process()).end(end_status)

    parent = DvcParent(tracking, project, psutil.Process()).start()
    run_stage("FINISHED")
    assert status() == "FINISHED"
    run_stage("FAILED")
    assert status() == "FAILED"
    run_stage("FINISHED")  # dvc repro --keep-going
    assert status() == "FAILED"
    assert DvcParent(tracking, project, psutil.Process().parent()).start() != parent


@pytest.mark.slow
def test_processes_that_start_together_share_one_database_and_experiment(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from flows.project import Project; "
    code += "from flows.tracking.client import connect; print(connect(Project(Path(sys.argv[1]))).experiment_id)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert {process.communicate()[0] for process in started} == {"1\n"}
    assert [process.returncode for process in started] == [0, 0]
