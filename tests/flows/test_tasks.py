"""Tasks in the flow: exact dependencies, tracking, tables, retraining, and names."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from cclm_core.evaluation.metrics import Baseline, Metric
from cclm_core.runtime.errors import ConfigError
from cclm_core.steps.params import Params
from flows.graph.evaluations import evaluations
from flows.graph.node import flatten
from flows.graph.plan import read_plan
from flows.graph.selection import (
    evaluation_stages,
    refuse_stale_before,
    trained_section,
    training_stage,
    with_dependents,
)
from flows.run.status import KEEP, NOTHING, RUN, read_status
from flows.run.task_table import by_test_set, task_rows, task_table
from tests.flows.conftest import Drive, Toy
from tests.flows.toy_tasks import add_tasks


@pytest.fixture(scope="module")
def tasked_template(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    project = Toy(reproduced).copy(tmp_path_factory.mktemp("tasked") / "project")
    add_tasks(project)
    project.dvc("repro")
    return project


@pytest.fixture
def tasked(tasked_template: Toy, tmp_path: Path) -> Toy:
    """A toy project with tasks, up to date."""
    return tasked_template.copy(tmp_path / "tasked")


def cclm(project: Toy, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "flows.cli", *arguments, check=check, **environment)


def outcomes(summary: dict[str, Any]) -> dict[str, str]:
    return {row["stage"]: row["outcome"] for row in summary["stages"]}


def finetunings(project: Toy, task: str) -> int:
    return len((project.root / f".cclm/finetuned-{task}").read_text())


def test_a_task_needs_only_its_composition_and_its_data(tasked: Toy) -> None:
    nodes = read_plan(tasked, changes=False).nodes
    intent, scratch, test = nodes["finetune@intent"], nodes["finetune@scratch"], nodes["test@intent"]
    assert intent.needs == ("compose@both", "label@tickets") and intent.shares == ("compose@solo", "label@mails")
    assert intent.folders == ("data/labeled", "compositions")
    assert intent.parts == ("data/labeled/tickets", "compositions/both")
    assert scratch.needs == ("label@tickets",)
    assert scratch.shares == ("compose@both", "compose@solo", "label@mails")
    assert test.needs == ("finetune@intent", "label@tickets") and test.shares == ("label@mails",)


def test_data_that_no_stage_makes_is_refused(tasked: Toy) -> None:
    tasked.params(lambda values: values["tasks"]["intent"].update(data="ticket"))
    with pytest.raises(ConfigError, match=r"finetune@intent has the part ticket, but no stage produces data/labeled/"):
        read_plan(tasked, changes=False)


@pytest.mark.slow
def test_a_task_does_not_run_again_when_another_composition_or_labeled_set_changes(tasked: Toy, drive: Drive) -> None:
    before = tasked.digests()
    tasked.params(lambda values: values["compositions"]["solo"].update(parts=["b"]))
    tasked.params(lambda values: values["labeled"]["mails"].update(version=2))
    stale = read_plan(tasked).stale()
    assert stale["finetune@intent"] == (
        "after compose@solo, not one of its parts",
        "after label@mails, not one of its parts",
    )
    stages = ["compose@solo", "label@mails", "finetune", "test@intent"]
    results = outcomes(drive(tasked, stages))
    assert results["compose@solo"] == results["label@mails"] == "ran"
    assert {results[name] for name in results if name.startswith(("finetune", "test"))} == {"unchanged"}
    assert finetunings(tasked, "intent") == finetunings(tasked, "scratch") == 1
    changed = {path for path, digest in tasked.digests().items() if digest != before[path]}
    assert changed == {"compositions/solo", "data/labeled/mails"}
    assert not read_plan(tasked).stale().keys() & set(results)

    # Its own composition changed: it runs; the task without a composition does not.
    tasked.params(lambda values: values["compositions"]["both"].update(parts=["b", "a"]))
    results = outcomes(drive(tasked, ["finetune"]))
    assert (results["finetune@intent"], results["finetune@scratch"]) == ("ran", "unchanged")
    assert finetunings(tasked, "intent") == 2 and finetunings(tasked, "scratch") == 1


def test_the_status_explains_that_a_task_is_kept(tasked: Toy) -> None:
    tasked.params(lambda values: values["compositions"]["solo"].update(parts=["b"]))
    tasked.dvc("repro", "-q", "-s", "compose@solo")
    rows = {row.stage: row for row in read_status(tasked).stages}
    assert (rows["finetune@intent"].run_would, rows["test@intent"].run_would) == (KEEP, NOTHING)
    assert rows["finetune@intent"].why == ("compositions modified", "nothing that it uses changed, so it does not run")
    tasked.params(lambda values: values["tasks"]["intent"].update(quality=0.8))
    assert {row.stage: row.run_would for row in read_status(tasked).stages}["finetune@intent"] == RUN


def test_finetuning_a_task_tests_tracks_and_registers_only_that_task(
    tasked: Toy, prefect_server: str, task_model: Path
) -> None:
    settings = {"CCLM_TRACKING": "on", "TOY_TASK": str(task_model), "PREFECT_API_URL": prefect_server}
    result = cclm(tasked, "finetune", "intent", "--set", "quality=0.9", "--json", **settings)
    summary = json.loads(result.stdout)
    assert outcomes(summary) == {"finetune@intent": "ran", "test@intent": "ran"}
    assert summary["retrained"]["task"] == "intent" and summary["retrained"]["message"] == "intent was retrained"
    assert summary["tasks"]["intent"]["accuracy"] == 0.9 and summary["comparison"] == {}
    (decision,) = summary["promotion"]
    assert (decision["name"], decision["model"], decision["result"]) == ("intent", "cclm-intent", "candidate")
    assert "there is no champion to compare with" in decision["reason"]  # it loads and answers in a new process

    client = MlflowClient(f"sqlite:///{tasked.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cclm")
    assert experiment
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    test = runs["test@intent"].data
    assert test.metrics["accuracy"] == 0.9 and test.tags["cclm.kind"] == "evaluation"
    finetuning = runs["finetune@intent"].data
    assert (finetuning.tags["cclm.kind"], finetuning.tags["cclm.task"]) == ("task", "intent")
    assert finetuning.tags["cclm.parent"] == summary["retrained"]["parent"] and finetuning.metrics["loss"] == 0.5
    (parent,) = [run for name, run in runs.items() if name.endswith(" · retrain intent · quality=0.9")]
    assert parent.data.metrics["intent/accuracy_noise_0.1"] == 0.9
    shown = json.loads(tasked.dvc("metrics", "show", "--json").stdout)[""]["data"]
    values = {name: value for name, value in test.metrics.items() if not name.startswith("system/")}
    assert flatten(shown["results/tasks/intent.json"]["data"]) == values
    tags = client.get_model_version("cclm-intent", "1").tags
    assert tags["cclm.task.run"] == runs["finetune@intent"].info.run_id
    assert tags["cclm.evaluation.run"] == runs["test@intent"].info.run_id
    lineage = json.loads(tags["cclm.lineage"])
    assert {"labeled.tickets", "composition.both"} < lineage.keys() and "labeled.mails" not in lineage


def test_without_changes_the_table_of_tasks_is_printed(tasked: Toy) -> None:
    again = cclm(tasked, "retrain", "intent")
    assert "intent is up to date with its settings and was not retrained." in again.stdout
    assert "intent, ngrams" in again.stdout and "Tasks" in again.stdout and "Compositions" not in again.stdout


def test_stages_of_tasks_are_selected_by_their_parameters(tasked: Toy) -> None:
    plan = read_plan(tasked)
    assert training_stage(plan, "intent", "tasks") == "finetune@intent" and trained_section(plan, "intent") == "tasks"
    assert list(with_dependents(plan, "finetune@intent")) == ["finetune@intent", "test@intent"]
    refuse_stale_before(plan, with_dependents(plan, "finetune@intent"))
    # A component of the task's composition: the task is trained again, the other one is only checked.
    assert {"finetune@intent", "test@intent", "finetune@scratch"} <= with_dependents(plan, "train@b").keys()
    assert "test@scratch" not in with_dependents(plan, "train@b")
    assert not any("@intent" in name for name in evaluation_stages(plan, ["both"]))  # evaluating trains nothing
    with pytest.raises(ConfigError, match="intentt is not a component or a task"):
        trained_section(plan, "intentt")
    with pytest.raises(ConfigError, match=r"intnt is not a task of params.yaml; did you mean 'intent'\?"):
        training_stage(plan, "intnt", "tasks")
    tasked.params(lambda values: values["tasks"].update(a=values["tasks"]["scratch"]))
    with pytest.raises(ConfigError, match=r"a is both a component and a task. Run `cclm finetune a` for the task"):
        trained_section(read_plan(tasked, changes=False), "a")


def test_a_task_and_a_composition_must_not_have_the_same_name(tasked: Toy) -> None:
    with pytest.raises(ConfigError, match=r"compositions.full and tasks.Full have the same name, .* cclm-Full. Rename"):
        Params({"seed": 1, "compositions": {"full": {"parts": []}}, "tasks": {"Full": {"data": "x"}}})
    tasked.params(lambda values: values["tasks"].update(solo=values["tasks"]["scratch"]))
    for folder in ("tasks", "results/tasks"):
        shutil.copytree(tasked.root / folder / "scratch", tasked.root / folder / "solo")
    with pytest.raises(ConfigError, match="compose@solo and finetune@solo make models with the same name"):
        evaluations(read_plan(tasked, changes=False), tasked)


def test_evaluations_have_the_tasks_next_to_the_compositions(tasked: Toy) -> None:
    measured = {entry.name: entry for entry in evaluations(read_plan(tasked, changes=False), tasked)}
    assert {name: entry.kind for name, entry in measured.items()} == {
        "both": "composition",
        "solo": "composition",
        "intent": "task",
        "scratch": "task",
    }
    intent = measured["intent"]
    assert (intent.made_by.name, intent.measured_by.name) == ("finetune@intent", "test@intent")
    assert intent.model == tasked.root / "tasks/intent" and intent.data == (tasked.root / "data/labeled/tickets",)


def metric(value: float, baseline: float | None = None) -> Metric:
    baselines = () if baseline is None else (Baseline(name="ngrams", value=baseline),)
    interval = (value - 0.02, value + 0.02)
    return Metric(value=value, better="higher", interval=interval, baselines=baselines, headline=True, documents=300)


def test_the_table_of_tasks_has_the_main_metric_by_noise_next_to_the_baseline() -> None:
    intent = {
        "accuracy": metric(0.9, 0.92),
        "accuracy_natural": metric(0.8, 0.7),
        "accuracy_noise_0.05": metric(0.88, 0.8),
        "accuracy_noise_0.2": metric(0.7, 0.5),
        "macro_f1": metric(0.85).model_copy(update={"headline": False}),
        "parameters": Metric(value=1000, headline=True),
    }
    names = {"pearson": metric(0.5), "pearson_noise_0.2": metric(0.4)}
    assert list(by_test_set(intent)) == ["clean", "noise_0.05", "noise_0.2", "natural"]
    own, baseline, other = task_rows({"intent": intent, "likeness": names})
    assert own == {
        "task": "intent",
        "metric": "accuracy ↑",
        "clean": "0.900 ±0.020",
        "noise_0.05": "0.880 ±0.020*",
        "noise_0.2": "0.700 ±0.020*",
        "natural": "0.800 ±0.020*",
        "measured on": "300 documents",
    }
    assert baseline["task"] == "intent, ngrams" and baseline["clean"] == "0.920*" and baseline["natural"] == "0.700"
    assert (other["task"], other["clean"], other["noise_0.05"], other["natural"]) == (
        "likeness",
        "0.500 ±0.020",
        "",
        "",
    )
    table = task_table([own, baseline, other])
    assert table.row_count == 3 and "± half the width" in str(table.caption)
    assert task_rows({}) == [] and task_rows({"broken": {}}) == []


def test_a_task_without_any_composition_is_trained(project: Toy, drive: Drive) -> None:
    add_tasks(project)
    project.params(lambda values: values.update(compositions={}, components={}))
    project.params(lambda values: values["tasks"].pop("intent"))
    results = outcomes(drive(project, ["test"]))
    assert results == {"label@tickets": "ran", "finetune@scratch": "ran", "test@scratch": "ran"}
    assert list((project.root / "compositions").iterdir()) == []


def test_the_default_pipeline_has_no_tasks() -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    assert values["tasks"] == {}
