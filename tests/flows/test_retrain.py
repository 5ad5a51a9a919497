"""Retraining a component changes only it and the compositions that contain it. Invalid requests change nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from cclm_core.runtime.artifacts import folder_digest
from cclm_core.runtime.errors import ConfigError
from flows.graph.plan import read_plan
from flows.graph.selection import evaluation_stages, refuse_stale_before, training_stage, with_dependents
from flows.project import Project
from tests.flows.conftest import Toy


def cclm(project: Toy, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "flows.cli", *arguments, check=check, **environment)


def test_only_the_component_and_compositions_that_contain_it_change(done: Toy, prefect_server: str) -> None:
    before, parent = done.digests(), folder_digest(done.root / "models/b")
    stamps = {path: path.stat().st_mtime_ns for path in (done.root / "models/a").iterdir()}
    result = cclm(
        done, "retrain", "b", "--set", "width=7", "--json", CCLM_TRACKING="on", PREFECT_API_URL=prefect_server
    )
    summary = json.loads(result.stdout)
    assert [row["stage"] for row in summary["stages"]] == ["train@b", "compose@both", "evaluate@both"]
    changed = {path for path, digest in done.digests().items() if digest != before[path]}
    assert changed == {"models/b", "compositions/both"}
    assert {path: path.stat().st_mtime_ns for path in (done.root / "models/a").iterdir()} == stamps
    assert summary["retrained"] == {
        "component": "b",
        "parent": parent,
        "digest": folder_digest(done.root / "models/b"),
        "message": "b was retrained",
    }
    client = MlflowClient(f"sqlite:///{done.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cclm")
    assert experiment
    tags = {run.info.run_name: run.data.tags for run in client.search_runs([experiment.experiment_id])}
    assert tags["train@b"]["cclm.parent"] == parent and tags["train@b"]["cclm.component"] == "b"
    assert "cclm.parent" not in tags["compose@both"]


@pytest.mark.slow
def test_retraining_with_identical_results_changes_nothing_else(done: Toy, prefect_server: str) -> None:
    before = done.digests()
    result = cclm(done, "retrain", "a", "--force", PREFECT_API_URL=prefect_server)
    assert "a was retrained, with identical results, so nothing else changed." in result.stdout
    assert done.digests() == before
    summary = json.loads((done.root / ".cclm/last-run.json").read_text())
    assert {row["stage"]: row["outcome"] for row in summary["stages"]} == {
        "train@a": "ran",
        "compose@both": "unchanged",
        "evaluate@both": "unchanged",
    }


def test_without_changes_prefect_is_not_started(done: Toy) -> None:
    result = cclm(done, "retrain", "a")
    assert "a is up to date with its settings and was not retrained." in result.stdout
    assert not (done.root / ".cclm/prefect").exists()


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            {"records": 9},
            ["a"],
            "stale stages: make (params.yaml: records modified). Run the whole pipeline first: `cclm run`.",
        ),
        (
            {"components": {"a": {"width": 9}}},
            ["b"],
            "depends on stale stages: train@a (params.yaml: components.a modified)",
        ),
        ({}, ["aa"], "aa is not a component of params.yaml; did you mean 'a'?"),
        ({}, ["a", "--set", "width"], "a setting must be KEY=VALUE, such as training.steps=500, got 'width'."),
        ({}, ["a", "--set", "width.deep=1"], "a.width is not a mapping, so components.a.width.deep cannot be set"),
    ],
)
def test_an_invalid_retraining_is_refused_and_changes_nothing(
    done: Toy, change: dict[str, Any], arguments: list[str], message: str
) -> None:
    def update(values: dict[str, Any]) -> None:
        for key, value in change.items():
            values[key] = values[key] | value if isinstance(value, dict) else value

    done.params(update)
    before = (done.root / "params.yaml").read_bytes(), (done.root / "dvc.lock").read_bytes()
    result = cclm(done, "retrain", *arguments, check=False)
    assert result.returncode == 2 and message in result.stderr
    assert ((done.root / "params.yaml").read_bytes(), (done.root / "dvc.lock").read_bytes()) == before


def test_stages_are_selected_by_their_parameters(done: Toy) -> None:
    plan = read_plan(done)
    assert training_stage(plan, "b") == "train@b"
    assert list(with_dependents(plan, "train@b")) == ["train@b", "compose@both", "evaluate@both"]
    assert (
        list(evaluation_stages(plan, []))
        == list(evaluation_stages(plan, ["both"]))
        == ["compose@both", "evaluate@both"]
    )
    with pytest.raises(ConfigError, match=r"bot is not a composition of params.yaml; did you mean 'both'\?"):
        evaluation_stages(plan, ["bot"])
    refuse_stale_before(plan, with_dependents(plan, "train@b"))


def test_evaluating_trains_nothing(done: Toy, prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    from flows.deployments.evaluate import evaluate

    monkeypatch.chdir(done.root)
    for name, value in done.environment.items():
        if not name.startswith("PREFECT_"):
            monkeypatch.setenv(name, value)
    done.params(lambda values: values.update(quality=0.75))
    summary = evaluate(["both"])
    assert {row["stage"]: row["outcome"] for row in summary["stages"]} == {
        "compose@both": "unchanged",
        "evaluate@both": "ran",
    }
    done.params(lambda values: values["components"]["a"].update(width=9))
    with pytest.raises(ConfigError, match=r"stale stages: train@a \(params.yaml: components.a modified\)"):
        evaluate([])


def test_settings_are_validated_and_comments_of_params_yaml_are_preserved(tmp_path: Path) -> None:
    from flows.graph.params_file import write_settings

    source = (Path(__file__).parents[2] / "params.yaml").read_text()
    params = tmp_path / "params.yaml"
    params.write_text(source)
    # Stages in this dvc.yaml run commands of the library, so params.yaml is validated.
    shutil.copy(Path(__file__).parents[2] / "dvc.yaml", tmp_path)
    project = Project(tmp_path)
    for settings, message in [
        ({"training.setps": 5}, r"params.yaml: components.entities: training.setps is not a known key; .*'steps'"),
        ({"training.steps": -5}, r"params.yaml: components.entities: training.steps must be .*, got -5"),
    ]:
        with pytest.raises(ConfigError, match=message):
            write_settings(project, "entities", settings)
        assert params.read_text() == source
    with pytest.raises(ConfigError, match=r"components.entitys not found; did you mean 'entities'\?"):
        write_settings(project, "entitys", {})
    assert not write_settings(project, "entities", {"training.steps": 300})
    assert write_settings(project, "entities", {"training.steps": 5, "training.learning_rate": 0.001})
    line = "    training: {steps: 300, batch_size: 32, window: 256, threads: 1, variants: [modern]}"
    changed = line.replace("300", "5").replace("}", ", learning_rate: 0.001}")
    assert source.count(line) == 1 and params.read_text() == source.replace(line, changed)
    assert {path.name for path in tmp_path.iterdir()} == {"dvc.yaml", "params.yaml"}
