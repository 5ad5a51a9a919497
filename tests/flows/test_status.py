"""`cclm status` reports what a run would do and what it would cost, without torch, MLflow or Prefect."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.run.status import NOTHING, RESTORE, RUN, RUN_IF_NEEDED, RUNNING, StageStatus, wall_seconds
from flows.tracking.records import read_record
from tests.flows.conftest import Toy
from tests.flows.test_stage import running_child


def status(project: Toy) -> dict[str, Any]:
    """The status as JSON. Checks that no heavy package was imported."""
    code = (
        "import sys; from pathlib import Path; from flows.project import Project; from flows.run.status import show; "
        "show(Project(Path.cwd()), True); "
        "print([name for name in ('torch', 'mlflow', 'prefect', 'pandas') if name in sys.modules], file=sys.stderr)"
    )
    done = project.run(sys.executable, "-c", code, CCLM_DEVICE_SLOTS="2")
    assert done.stderr.strip() == "[]"
    return dict(json.loads(done.stdout))


def test_actions_and_costs_of_stages(done: Toy) -> None:
    before = status(done)
    assert {row["run_would"] for row in before["stages"]} == {NOTHING} and before["wall_seconds"] == 0
    assert before["unregistered"] == [] and before["unpushed"] is None  # not tracked, and no remote

    (done.root / "models/b/content.json").unlink()
    done.params(lambda values: values["components"]["a"].update(width=4))
    now = status(done)
    rows = {row["stage"]: row for row in now["stages"]}
    assert {name: row["run_would"] for name, row in rows.items()} == {
        "make": NOTHING,
        "train@a": RUN,
        "train@b": RESTORE,
        "compose@both": RUN_IF_NEEDED,
        "evaluate@both": RUN_IF_NEEDED,
    }
    assert rows["train@b"]["why"] == ["models/b modified"]
    record = read_record(done, "train@a")
    assert record and record.ended
    assert rows["train@a"]["cost"]["seconds"] == pytest.approx(record.ended - record.started)
    assert set(rows["train@a"]["cost"]) == {"seconds", "cpu_seconds", "peak_memory_megabytes"}
    costs = [row["cost"]["seconds"] for row in rows.values() if row["run_would"] in (RUN, RUN_IF_NEEDED)]
    assert now["total"]["seconds"] == pytest.approx(sum(costs)) == pytest.approx(now["wall_seconds"])

    # A component that was trained before with these parameters is restored.
    done.params(lambda values: values["components"]["a"].update(width=1))
    assert {row["stage"]: row["run_would"] for row in status(done)["stages"]}["train@a"] == NOTHING
    done.dvc("repro", "-s", "train@b")
    done.params(lambda values: values["components"]["b"].update(width=5))
    done.dvc("repro", "-s", "train@b")
    done.params(lambda values: values["components"]["b"].update(width=2))
    assert {row["stage"]: row["run_would"] for row in status(done)["stages"]}["train@b"] == RESTORE


def test_without_measured_costs_there_is_no_estimate(project: Toy) -> None:
    values = status(project)
    assert values["wall_seconds"] is None and values["total"] == {"seconds": None, "cpu_seconds": None}
    assert {row["run_would"] for row in values["stages"]} == {RUN, RUN_IF_NEEDED}
    output = project.run(sys.executable, "-m", "flows.cli", "status").stdout
    assert "these stages never ran in this clone: make, train@a, train@b, compose@both, and 1 more" in output


def test_a_running_stage_is_shown_with_the_cost_of_its_last_successful_run(done: Toy) -> None:
    before = read_record(done, "train@a")
    done.params(lambda values: values["components"]["a"].update(seconds=60))
    (done.root / ".cclm/reports/train@a.jsonl").unlink()
    dvc = subprocess.Popen(["dvc", "repro", "-q", "-s", "train@a"], cwd=done.root, env=done.environment)
    running_child(done)
    row = next(row for row in status(done)["stages"] if row["stage"] == "train@a")
    assert row["run_would"] == RUNNING and row["stale"]
    dvc.kill()
    dvc.wait()
    assert before and row["cost"] == before.cost and before.cost["seconds"] > 0


def test_unregistered_compositions_and_unpushed_outputs(done: Toy, tmp_path: Path) -> None:
    done.environment["CCLM_TRACKING"] = "on"
    assert status(done)["unregistered"] == ["both"]
    done.dvc("remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    assert len(status(done)["unpushed"]) == 6
    done.dvc("push", "-q")
    assert status(done)["unpushed"] == []


def test_the_estimate_respects_slots_and_dependencies() -> None:
    def stage(name: str, seconds: float, *needs: str, device: bool = True) -> StageStatus:
        return StageStatus(name, True, (), RUN, device, needs, {"seconds": seconds})

    stages = [stage("data", 5, device=False), *(stage(name, 10, "data") for name in "abc"), stage("end", 1, *"abc")]
    assert wall_seconds(stages, 1) == 36
    assert wall_seconds(stages, 2) == 26
    assert wall_seconds(stages, 3) == 16
    assert wall_seconds([], 1) == 0
