"""dvc.yaml is the only stage graph, and every stage in it depends on the code that it really uses."""

from pathlib import Path

import grimp
import pytest
import yaml

from cclm_core.training.code import has_effect

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def body(name: str) -> dict[str, list[str]]:
    """What a stage, or a group of stages, is made of."""
    stage: dict[str, list[str]] = STAGES[name].get("do", STAGES[name])
    return stage


def used(stage: str) -> set[str]:
    """The files of the library that the module of a stage imports, directly or not."""
    graph = grimp.build_graph("cclm_core")
    modules = {f"cclm_core.steps.{stage}", *graph.find_upstream_modules(f"cclm_core.steps.{stage}")}
    files = set()
    for module in modules:
        path = Path(*module.split("."))
        file = path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")
        if has_effect(ROOT / file):
            files.add(file.as_posix())
    return files


def covers(dependency: str, file: str) -> bool:
    """Whether a dependency, a file or a folder, holds a file."""
    return file == dependency or file.startswith(f"{dependency}/")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_uses_and_on_no_other(stage: str) -> None:
    files = used(stage)
    declared = [dependency for dependency in body(stage)["deps"] if dependency.startswith("cclm_core")]
    missing = {file for file in files if not any(covers(dependency, file) for dependency in declared)}
    needless = {dependency for dependency in declared if not any(covers(dependency, file) for file in files)}
    assert not missing, f"add to the dependencies of {stage} in dvc.yaml: {sorted(missing)}"
    assert not needless, f"remove from the dependencies of {stage} in dvc.yaml: {sorted(needless)}"


def test_every_output_is_cached_and_named_once() -> None:
    outputs = [output for stage in STAGES for output in body(stage)["outs"]]
    assert all(isinstance(output, str) for output in outputs), "an output with options may escape the cache"
    assert len(set(outputs)) == len(outputs)


def test_every_stage_of_the_graph_is_tracked_and_runs_the_command_of_its_name() -> None:
    for stage in STAGES:
        assert str(body(stage)["cmd"]).startswith(f"python -m flows.stage stage {stage} ")
