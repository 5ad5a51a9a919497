"""A stage that fails keeps its former outputs, although DVC deletes them before the stage runs."""

import shutil

import pytest

from flows.doctor.dvc_checks import outputs
from flows.doctor.finding import Inspection
from flows.graph.dvc_private import cache_folder, object_path
from flows.graph.outputs import missing_outputs, restore_outputs
from tests.flows.conftest import Drive, Toy


def files(project: Toy, folder: str) -> dict[str, bytes]:
    root = project.root / folder
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_failed_stage_keeps_its_former_outputs_under_bare_dvc(done: Toy) -> None:
    before = files(done, "models/a")
    done.params(lambda values: values["components"]["a"].update(fail=1))
    failed = done.dvc("repro", "-s", "train@a", check=False)
    assert failed.returncode != 0 and "The former outputs are kept: models/a." in failed.stderr
    assert before and files(done, "models/a") == before
    done.params(lambda values: values["components"]["a"].pop("fail"))
    assert "Data and pipelines are up to date." in done.dvc("status").stdout


def test_a_failed_stage_keeps_its_former_outputs_in_a_flow(done: Toy, drive: Drive) -> None:
    before = files(done, "models/a")
    done.params(lambda values: values["components"]["a"].update(fail=1))
    rows = {row["stage"]: row for row in drive(done)["stages"]}
    assert rows["train@a"]["outcome"] == "failed"
    assert "on purpose" in rows["train@a"]["message"] and "The former outputs are kept" in rows["train@a"]["message"]
    assert files(done, "models/a") == before


def test_outputs_deleted_by_a_killed_run_are_found_and_restored(done: Toy) -> None:
    before = files(done, "results/both")
    shutil.rmtree(done.root / "results/both")
    (done.root / "results/both.json").unlink()
    (finding,) = outputs(Inspection(done))
    assert finding.subject == "evaluate@both" and "results/both, results/both.json" in finding.problem
    assert finding.repair
    finding.repair()
    assert files(done, "results/both") == before and (done.root / "results/both.json").is_file()
    assert list(outputs(Inspection(done))) == []


def test_an_incomplete_cache_restores_nothing_and_leaves_nothing_behind(done: Toy) -> None:
    shutil.rmtree(done.root / "models/a")
    ((path, md5),) = missing_outputs(done, "train@a")
    assert path == "models/a"
    object_path(cache_folder(done.root), md5).unlink()
    assert restore_outputs(done, "train@a") == []
    assert not [name for name in (done.root / "models").iterdir() if name.name.endswith(".restoring")]
    assert list(outputs(Inspection(done))) == []


@pytest.mark.parametrize("stage", ["train@a", "unknown"])
def test_without_a_lock_nothing_is_restored(project: Toy, stage: str) -> None:
    assert restore_outputs(project, stage) == []
