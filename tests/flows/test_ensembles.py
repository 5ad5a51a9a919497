"""Ensembles in the flow: exact dependencies, one run for a changed part, lineage, names, and the gate."""

from pathlib import Path

import pytest
import yaml
from fastapi import HTTPException

from cclm_core.evaluation.promotion import TaskRules
from cclm_core.finetuning.config import EnsembleConfig, TaskConfig
from cclm_core.finetuning.fuse import fuse_parts
from cclm_core.finetuning.ngram_model import fit_ngrams
from cclm_core.finetuning.store import save_task
from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import ConfigError
from flows.gate.lineage import Lineage
from flows.gate.served import served
from flows.gate.task_gate import compare_tasks
from flows.graph.evaluations import evaluations
from flows.graph.plan import read_plan
from flows.graph.selection import evaluation_stages, with_dependents
from flows.run.checks import _check_names
from flows.service.predictors import check, load_predictor
from flows.service.schema import check_method
from tests.finetuning.tasks import data
from tests.flows.conftest import Drive, Toy
from tests.flows.test_gate_trials import skip_load_checks
from tests.flows.toy_stages import write_results
from tests.flows.toy_tasks import TaskPromoter, add_tasks, open_tasks

STAGES = """
  fuse:
    foreach: ${ensembles}
    do:
      cmd: >-
        python -m flows.stage --module toy_stages stage fuse ${key} --tasks tasks --labeled data/labeled
        --out ensembles/${key}
      params: ["ensembles.${key}"]
      deps: [tasks, data/labeled]
      outs: ["ensembles/${key}"]
  measure:
    foreach: ${ensembles}
    do:
      cmd: >-
        python -m flows.stage --module toy_stages stage measure ${key} --ensemble ensembles/${key} --tasks tasks
        --labeled data/labeled --out results/ensembles/${key} --metrics results/ensembles/${key}.json
      params: ["ensembles.${key}"]
      deps: ["ensembles/${key}", tasks, data/labeled]
      outs: ["results/ensembles/${key}"]
      metrics: ["results/ensembles/${key}.json"]
"""


@pytest.fixture(scope="module")
def fused_template(reproduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    project = Toy(reproduced).copy(tmp_path_factory.mktemp("fused") / "project")
    add_tasks(project)
    path = project.root / "dvc.yaml"
    path.write_text(path.read_text() + STAGES.lstrip("\n"))
    third = {"data": "mails", "quality": 0.4}
    project.params(lambda values: values["tasks"].update(third=third))
    project.params(lambda values: values.update(ensembles={"all": {"parts": ["intent", "scratch"]}}))
    project.dvc("repro")
    return project


@pytest.fixture
def fused(fused_template: Toy, tmp_path: Path) -> Toy:
    """A toy project with an ensemble of two of three tasks, up to date."""
    return fused_template.copy(tmp_path / "fused")


def runs(project: Toy, stage: str) -> int:
    return len((project.root / f".cclm/{stage}-all").read_text())


def test_an_ensemble_needs_only_its_parts_and_their_data(fused: Toy) -> None:
    nodes = read_plan(fused, changes=False).nodes
    fuse, measure = nodes["fuse@all"], nodes["measure@all"]
    assert fuse.needs == ("finetune@intent", "finetune@scratch", "label@tickets")
    assert fuse.shares == ("finetune@third", "label@mails")
    assert set(fuse.parts) == {"tasks/intent", "tasks/scratch", "data/labeled/tickets"}
    assert measure.needs == ("finetune@intent", "finetune@scratch", "fuse@all", "label@tickets")
    fused.params(lambda values: values["ensembles"]["all"].update(parts=["intent", "scrtch"]))
    with pytest.raises(ConfigError, match=r"fuse@all has the part scrtch, but no stage produces tasks/scrtch"):
        read_plan(fused, changes=False)


@pytest.mark.slow
def test_a_changed_task_that_is_no_part_does_not_run_the_ensemble_again(fused: Toy, drive: Drive) -> None:
    before = fused.digests()
    fused.params(lambda values: values["tasks"]["third"].update(quality=0.5))
    stages = ["finetune@third", "fuse", "measure"]
    outcomes = {row["stage"]: row["outcome"] for row in drive(fused, stages)["stages"]}
    assert outcomes["finetune@third"] == "ran"
    assert (outcomes["fuse@all"], outcomes["measure@all"]) == ("unchanged", "unchanged")
    assert runs(fused, "fuse") == runs(fused, "measure") == 1
    assert {path for path, digest in fused.digests().items() if digest != before[path]} == {"tasks/third"}

    fused.params(lambda values: values["tasks"]["scratch"].update(quality=0.65))
    outcomes = {row["stage"]: row["outcome"] for row in drive(fused, ["measure"])["stages"]}
    assert outcomes["finetune@scratch"] == outcomes["fuse@all"] == outcomes["measure@all"] == "ran"


def test_stages_of_ensembles_follow_their_parts(fused: Toy) -> None:
    plan = read_plan(fused)
    assert {"fuse@all", "measure@all"} <= with_dependents(plan, "finetune@intent").keys()
    assert not any("@all" in name for name in evaluation_stages(plan, ["both"]))


def test_an_ensemble_is_evaluated_as_a_task_and_its_parts_keep_their_own_results(fused: Toy) -> None:
    measured = {entry.name: entry for entry in evaluations(read_plan(fused, changes=False), fused)}
    assert (measured["all"].kind, measured["all"].made_by.name) == ("task", "fuse@all")
    assert measured["all"].measured_by.name == "measure@all"
    assert measured["all"].model == fused.root / "ensembles/all"
    assert measured["intent"].measured_by.name == "test@intent"


def test_the_lineage_has_the_parts_and_the_data(fused: Toy) -> None:
    origin = Lineage(fused, read_plan(fused, changes=False), None).of("all")
    digests = {part.name: part.digest for part in origin.made_from}
    assert digests["intent"] == verify(fused.root / "tasks/intent", "task")
    assert digests["tickets"] == verify(fused.root / "data/labeled/tickets", "labeled")
    assert {"intent", "scratch", "tickets"} <= digests.keys() and "third" not in digests


def test_an_ensemble_without_a_stage_that_measures_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ensembles.all has no stage in dvc.yaml that makes it"):
        _check_names("ensembles", {"all": {}}, [])


def test_the_default_pipeline_has_no_ensembles() -> None:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    assert values["ensembles"] == {}


def test_the_gate_refuses_an_ensemble_that_is_worse_than_its_best_part(
    task_champion: Path, task_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks: TaskPromoter = open_tasks(Toy(task_champion).copy(tmp_path / "tasks"), task_model, monkeypatch)
    skip_load_checks(monkeypatch)
    tasks.make(3, 0.9, gain=(-0.05, -0.08, -0.02))
    decision = tasks.promote()
    assert decision.result == "candidate"
    assert "it is worse than its best part on 1 test sets: accuracy -0.05 (-0.08 to -0.02)" in decision.reason
    tasks.make(4, 0.9, gain=(0.02, -0.01, 0.04))
    assert tasks.promote().result == "champion"


@pytest.mark.parametrize(
    ("gain", "rules", "passes"),
    [
        ((-0.05, -0.08, -0.02), {}, False),
        ((-0.05, -0.08, -0.02), {"best_part": False}, True),
        ((-0.01, -0.03, 0.01), {}, True),
        ((0.03, 0.01, 0.05), {}, True),
    ],
)
def test_the_comparison_with_parts(
    gain: tuple[float, float, float], rules: dict[str, bool], passes: bool, tmp_path: Path
) -> None:
    write_results(tmp_path / "champion", 0.7, {"task": "x"})
    write_results(tmp_path / "candidate", 0.9, {"task": "y"}, gain=gain)
    verdict = compare_tasks(tmp_path / "candidate", tmp_path / "champion", TaskRules(**rules))
    assert verdict.passed is passes


def test_ensembles_and_n_grams_are_served(tmp_path: Path) -> None:
    labeled = data("classify")
    counts = fit_ngrams("counts", labeled, TaskConfig.parse({"data": "toy", "model": "ngrams"}, "task"))[0]
    parts = {"counts": counts}
    model = fuse_parts("all", parts, labeled.train, labeled.validation, EnsembleConfig(parts=("counts",))).model
    save_task(model, tmp_path / "all")
    predictor = load_predictor(tmp_path / "all")
    check(predictor)
    assert (predictor.width, predictor.task, predictor.labels) == (0, "classify", labeled.labels)
    check_method("predict", ["a"], predictor, "all@champion")
    with pytest.raises(HTTPException, match="all@champion has no embeddings"):
        check_method("embed", ["a"], predictor, "all@champion")
    packed = served("task", tmp_path / "all")
    assert packed.metadata == {"cclm.kind": "task", "cclm.pairs": False}
