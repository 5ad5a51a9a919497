"""The plan has the order, the parameters and the changes of DVC's graph."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.errors import ConfigError
from flows import formats
from flows.gate import gate
from flows.graph import plan as graph
from flows.graph.evaluations import evaluations
from flows.graph.node import flatten
from flows.graph.plan import read_plan
from flows.remote.workers import added_inputs
from flows.run import stage_runner as stage
from flows.run import tables
from tests.flows.conftest import Toy


def test_every_stage_comes_after_the_stages_that_it_needs(project: Toy) -> None:
    plan = read_plan(project)
    assert list(plan.nodes) == ["make", "train@a", "train@b", "compose@both", "evaluate@both"]
    assert plan.nodes["compose@both"].needs == ("train@a", "train@b")
    assert plan.nodes["evaluate@both"].needs == ("compose@both", "make")
    assert [node.name for node in plan.nodes.values() if node.needs_device] == ["train@a", "train@b"]


def test_a_stage_has_only_its_own_parameters_and_paths(project: Toy) -> None:
    node = read_plan(project, changes=False).nodes["train@b"]
    assert node.params == {"components.b.width": 2, "components.b.seconds": 0.5}
    assert node.deps == ("data/corpus",) and node.outs == ("models/b",)
    assert node.item == "b"


def test_stages_that_never_ran_are_stale_for_that_reason(project: Toy) -> None:
    stale = read_plan(project).stale()
    assert list(stale) == ["make", "train@a", "train@b", "compose@both", "evaluate@both"]
    assert stale["make"] == ("never run",)
    assert stale["compose@both"] == ("never run", "after train@a", "after train@b")


def test_a_changed_parameter_makes_its_dependents_stale(done: Toy) -> None:
    assert read_plan(done).stale() == {}
    done.params(lambda values: values["components"]["a"].update(width=5))
    assert read_plan(done).stale() == {
        "train@a": ("params.yaml: components.a modified",),
        "compose@both": ("after train@a",),
        "evaluate@both": ("after compose@both",),
    }


def test_a_missing_output_is_named(done: Toy) -> None:
    (done.root / "models/b/curve.csv").unlink()
    assert read_plan(done).changed["train@b"] == ("models/b modified",)


def test_a_file_that_dvc_add_tracks_is_no_stage_and_is_fetched_for_the_stage_that_names_it(project: Toy) -> None:
    (project.root / "input").mkdir()
    (project.root / "input/start.bin").write_bytes(b"weights")
    project.dvc("add", "-q", "input/start.bin")
    sources = {"initialize": {"source": "input/start.bin"}, "embedding": {"source": "input/in-git/words.txt"}}
    project.params(lambda values: values["components"]["a"].update(sources))
    nodes = read_plan(project).nodes
    assert list(nodes) == ["make", "train@a", "train@b", "compose@both", "evaluate@both"]
    assert added_inputs(project, nodes["train@a"]) == ["input/start.bin"]
    assert added_inputs(project, nodes["train@b"]) == []


def test_targets_include_the_stages_that_they_need(project: Toy) -> None:
    plan = read_plan(project, changes=False)
    assert list(plan.select(["train@a"])) == ["make", "train@a"]
    assert plan.match(["train"]) == plan.match(["train@*"]) == ["train@a", "train@b"]
    assert list(plan.select([])) == list(plan.nodes)


def test_an_unknown_target_is_refused_with_the_nearest(project: Toy) -> None:
    with pytest.raises(ConfigError, match=r"tarin@a is not a stage of dvc.yaml; did you mean 'train@a'\?"):
        read_plan(project, changes=False).select(["tarin@a"])


def test_an_invalid_dvc_yaml_is_a_readable_error(project: Toy) -> None:
    (project.root / "dvc.yaml").write_text("stages: {make: {cmd: }}\n")
    with pytest.raises(ConfigError, match="DVC cannot read the pipeline"):
        read_plan(project)


def test_compositions_and_their_results_are_found_by_their_kind(done: Toy) -> None:
    plan = read_plan(done, changes=False)
    (evaluation,) = evaluations(plan, done)
    assert (evaluation.name, evaluation.made_by.name, evaluation.measured_by.name) == (
        "both",
        "compose@both",
        "evaluate@both",
    )
    assert evaluation.model == done.root / "compositions/both" and evaluation.results == done.root / "results/both"
    assert evaluation.data == (done.root / "data/corpus",) and not evaluation.untrained


def test_there_are_no_evaluations_before_the_first_run(project: Toy) -> None:
    assert evaluations(read_plan(project, changes=False), project) == []


@pytest.mark.parametrize("module", [graph, gate, stage, tables, formats])
def test_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0 and result.failed == 0


def test_the_plan_needs_neither_torch_nor_mlflow_nor_prefect(done: Toy) -> None:
    code = "import sys; from pathlib import Path; from flows.graph.plan import read_plan; import flows.cli; "
    code += "from flows.project import Project; "
    code += (
        "read_plan(Project(Path('.'))); print([name for name in ('torch', 'mlflow', 'prefect') if name in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=done.root, env=done.environment, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def test_the_state_folder_is_private(done: Toy) -> None:
    assert (done.root / ".cclm").stat().st_mode & 0o077 == 0
    assert Path(done.root / ".cclm/dvc").is_dir()


def test_no_parameter_has_a_name_that_dvc_ignores() -> None:
    """DVC leaves these names out of the key of its run cache, so a changed `size` would restore old outputs."""
    path = Path(__file__).parents[2] / "params.yaml"
    names = {part for key in flatten(load_yaml(path)) for part in key.split(".")}
    assert names.isdisjoint({"size", "nfiles"})
