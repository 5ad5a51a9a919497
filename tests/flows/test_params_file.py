"""Settings that are changed in params.yaml (`cclm run --set`)."""

from pathlib import Path
from typing import Any

import pytest

from cclm_core.runtime.config import load_yaml
from cclm_core.runtime.errors import ConfigError
from flows.graph.params_file import change_settings
from flows.project import Project

PARAMS = """\
seed: 1  # a comment
ingest: {source: {kind: files, paths: [input]}, validation_share: 0.1, test_share: 0.1}
base:
  objectives:
    - task: {objective: masked_characters}
components:
  first:
    task: {objective: masked_characters}
    encoder: {width: &width 64}
  second:
    task: {objective: characters}
    encoder: {width: *width}
  third: &shared
    task: {objective: characters}
    training: {steps: 5}
  fourth: *shared
compositions: {}
promotion: {metrics: {label_accuracy: {margin: 0.1}}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "dvc.yaml").write_text("stages: {base: {cmd: python -m flows.stage stage base}}\n")
    return Project(tmp_path)


def widths(project: Project) -> dict[str, Any]:
    components = load_yaml(project.params_file)["components"]
    return {name: components[name].get("encoder", {}).get("width") for name in ("first", "second")}


def test_any_key_can_be_set_and_comments_stay(project: Project) -> None:
    assert change_settings(project, {"seed": 2, "base.objectives.0.gradient_factor": 0.5, "noise.rates": [0.1]})
    assert not change_settings(project, {"seed": 2})
    values = load_yaml(project.params_file)
    assert values["seed"] == 2 and values["noise"] == {"rates": [0.1]}
    assert values["base"]["objectives"][0]["gradient_factor"] == 0.5
    assert "# a comment" in project.params_file.read_text()


def test_a_value_with_an_anchor_changes_everywhere_and_a_reference_only_where_it_is(project: Project) -> None:
    change_settings(project, {"components.first.encoder.width": 96})
    assert widths(project) == {"first": 96, "second": 96}
    assert "&width 96" in project.params_file.read_text() and "*width" in project.params_file.read_text()
    change_settings(project, {"components.second.encoder.width": 32})
    assert widths(project) == {"first": 96, "second": 32}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bse.training.steps": 3}, "bse is not a known section; did you mean 'base'"),
        ({"components.frist.training.steps": 3}, r"components\.frist not found; did you mean 'first'"),
        ({"base.training.stesp": 3}, r"base: training\.stesp is not a known key; did you mean 'steps'"),
        ({"base.objectives.1.gradient_factor": 0.5}, r"base\.objectives\.1 must be an index from 0 to 0, got '1'"),
        ({"components.third.training.steps": 7}, r"is shared through the anchor &shared"),
        ({"seed.value": 7}, r"seed is not a mapping"),
    ],
)
def test_a_wrong_setting_is_refused_and_nothing_changes(
    project: Project, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        change_settings(project, settings)
    assert project.params_file.read_text() == PARAMS
