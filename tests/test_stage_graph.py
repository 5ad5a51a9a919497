"""Each stage in dvc.yaml depends on exactly the packages and parameters that it uses."""

import ast
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
import yaml

from cclm_core.steps.params import SECTIONS
from cclm_core.training.code import has_effect

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PLUGINS = {"cclm_core/datasets"}
"""Loaded by name from params.yaml (`ingest.source.parser`), not by an import statement."""


def body(name: str) -> dict[str, list[str]]:
    """The definition of a stage, or of the stages of a `foreach`."""
    stage: dict[str, list[str]] = STAGES[name].get("do", STAGES[name])
    return stage


def used(stage: str) -> set[str]:
    """The library files that a stage's module imports, directly or indirectly."""
    graph = grimp.build_graph("cclm_core")
    modules = {f"cclm_core.steps.{stage}", *graph.find_upstream_modules(f"cclm_core.steps.{stage}")}
    files = set()
    for module in modules - {"cclm_core", "cclm_core.steps"}:
        path = Path(*module.split("."))
        file = path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")
        if has_effect(ROOT / file):
            files.add(file.as_posix())
    return files


def covers(dependency: str, file: str) -> bool:
    """Whether a dependency (a file or a folder) contains a file."""
    return file == dependency or file.startswith(f"{dependency}/")


@pytest.mark.parametrize("stage", STAGES)
def test_stage_depends_on_exactly_the_packages_it_imports(stage: str) -> None:
    files = used(stage)
    declared = [dependency for dependency in body(stage)["deps"] if dependency.startswith("cclm_core")]
    missing = {file for file in files if not any(covers(dependency, file) for dependency in declared)}
    unneeded = {
        dependency for dependency in set(declared) - PLUGINS if not any(covers(dependency, file) for file in files)
    }
    assert not missing, f"add to the dependencies of {stage} in dvc.yaml: {sorted(missing)}"
    assert not unneeded, f"remove from the dependencies of {stage} in dvc.yaml: {sorted(unneeded)}"


def parameters_read(stage: str) -> Iterator[str]:
    """The keys of params.yaml that a stage's module reads through `section`, `named` and `.seed`."""
    keys = {value.partition(":")[2]: key for key, value in SECTIONS.items()}
    for node in ast.walk(ast.parse((ROOT / f"cclm_core/steps/{stage}.py").read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("section", "named")
        ):
            config = node.args[0]
            assert isinstance(config, ast.Name), f"{stage}: name the configuration class in the call"
            yield keys[config.id] + (".${key}" if node.func.attr == "named" else "")
        elif isinstance(node, ast.Attribute) and node.attr == "seed" and ast.unparse(node.value) == "params":
            yield "seed"


@pytest.mark.parametrize("stage", STAGES)
def test_stage_declares_exactly_the_parameters_it_reads(stage: str) -> None:
    """An undeclared key could change without a rerun."""
    assert set(body(stage)["params"]) == set(parameters_read(stage))


def outputs(stage: str) -> list[str]:
    """All outputs of a stage, including metrics and plots."""
    entries = [*body(stage)["outs"], *body(stage).get("metrics", []), *body(stage).get("plots", [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def test_no_two_stages_write_the_same_output() -> None:
    paths = [path for stage in STAGES for path in outputs(stage)]
    assert len(set(paths)) == len(paths)


def test_every_stage_runs_its_own_command_through_the_tracking_runner() -> None:
    for stage in STAGES:
        assert str(body(stage)["cmd"]).startswith(f"python -m flows.stage stage {stage} ")
