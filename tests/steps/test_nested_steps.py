"""The stages over compositions, and `cclm fork`: trained over, composed with, forked, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cclm_core import ComposedModel, load
from cclm_core.cli.app import app
from cclm_core.composition.component import OverBase
from cclm_core.composition.store import load_base, load_component, load_composition
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.artifacts import folder_digest, verify
from cclm_core.runtime.errors import CclmError, CompositionError
from cclm_core.runtime.reporting import silent
from cclm_core.steps.compose import compose
from cclm_core.steps.params import Params
from tests.corpora import encode, records
from tests.encoders.shapes import text
from tests.steps.test_training_steps import ENCODER, PARAMS, TRAINING, Project

LONGER = TRAINING | {"steps": 60, "batch_size": 8, "evaluation_windows": 8}
OVER = {"task": {"objective": "entities"}, "encoder": ENCODER, "training": LONGER}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A base, two components, the composition `pair` of both, and a component `over` that was trained over it."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.write(PARAMS | {"components": {**PARAMS["components"], "over": OVER}})  # type: ignore[dict-item]
    encode(project.encoded, records(40))
    project.run_base()
    for name in ("masked_characters", "entities"):
        project.run_pretrain(name)
    compose(Params.load(project.params), "pair", project.base, project.folder, project.folder / "pair", silent)
    project.run_pretrain("over", base=project.folder / "pair")
    return project


def test_a_component_learns_over_a_composition_that_stays_as_it_is(made: Project) -> None:
    composition = load(made.folder / "pair")
    assert isinstance(composition, ComposedModel)
    verify(made.folder / "pair", "composition")
    about = json.loads((made.folder / "over" / "card.json").read_text())
    assert about["base"] == folder_digest(made.folder / "pair")
    card = load_component(made.folder / "over").card
    assert card.base_digest == composition.digest and card.base_width == composition.width
    rows = [line.split(",") for line in (made.folder / "over" / "curve.csv").read_text().splitlines()]
    curve = [float(row[rows[0].index("held_out_bits_per_tag")]) for row in rows[1:]]
    assert curve[-1] < 0.7 * curve[0]


def test_compositions_are_composed_as_base_and_as_part_and_have_controls(made: Project, tmp_path: Path) -> None:
    project = Project(tmp_path)
    over, both = ["over"], ["entities", "pair"]
    compositions = {"top": over, "top-control": over, "both": both, "new": both, "wrong": ["over", "pair"]}
    project.write(
        PARAMS
        | {
            "compositions": {
                name: {"parts": parts, "untrained": name in ("new", "top-control")}
                for name, parts in compositions.items()
            }
        }
    )
    for name, base in (("top", "pair"), ("top-control", "pair"), ("both", "base"), ("new", "base")):
        compose(Params.load(project.params), name, made.folder / base, made.folder, tmp_path / name, silent)
        verify(tmp_path / name, "composition")
    both, new = (load_composition(tmp_path / name) for name in ("both", "new"))
    assert list(both.features(text(3))) == ["entities", "pair", "pair/masked_characters", "pair/entities"]
    assert sum(isinstance(module, Embedder) for module in both.modules()) == 1
    assert both.base.digest == new.base.digest and both.digest != new.digest
    numbers = json.loads((tmp_path / "both" / "metrics.json").read_text())
    weights = [
        load_base(made.base),
        *(load(made.folder / name) for name in ("entities", "entities", "masked_characters")),
    ]
    assert numbers["parameters"] == sum(weight.numel() for one in weights for weight in one.parameters())
    with pytest.raises(CompositionError, match=r"'over' was trained on another base"):
        compose(Params.load(project.params), "wrong", made.base, made.folder, tmp_path / "wrong", silent)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(("name", "base"), [("entities", "base"), ("over", "pair")])
def test_the_command_forks_a_component_with_its_head_and_refuses_to_do_it_twice(
    made: Project, tmp_path: Path, name: str, base: str
) -> None:
    component, below, out = (str(folder) for folder in (made.folder / name, made.folder / base, tmp_path / "fork"))
    before = folder_digest(made.folder / name)
    shown = CliRunner().invoke(app, ["fork", component, out, "--base", below], catch_exceptions=False)
    assert shown.exit_code == 0 and "independent of any base" in shown.stdout
    verify(tmp_path / "fork", "component")
    fork, part, stands_on = (
        load_component(tmp_path / "fork"),
        load_component(made.folder / name),
        load_base(Path(below)),
    )
    assert torch.equal(OverBase(load_base(made.base), fork)(text(9)), OverBase(stands_on, part)(text(9)))
    for kept in ("head.safetensors", "curve.csv"):
        assert (tmp_path / "fork" / kept).read_bytes() == (made.folder / name / kept).read_bytes()
    about = json.loads((tmp_path / "fork" / "card.json").read_text())
    assert about["data"] == folder_digest(made.encoded) and about["component"] == before == folder_digest(
        made.folder / name
    )
    figures, old = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "fork", made.folder / name)
    )
    assert figures["parameters"] > old["parameters"] and figures | {"parameters": 0} == old | {"parameters": 0}
    with pytest.raises(CclmError, match=r"is already independent"):
        CliRunner().invoke(app, ["fork", out, str(tmp_path / "again"), "--base", below], catch_exceptions=False)
    assert not (tmp_path / "again").exists()


def test_the_command_refuses_another_base_and_says_how_it_is_used(made: Project, tmp_path: Path) -> None:
    arguments = ["fork", str(made.folder / "over"), str(tmp_path / "fork"), "--base", str(made.base)]
    with pytest.raises(CompositionError, match="was trained on another base"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not (tmp_path / "fork").exists()
    shown = " ".join(CliRunner().invoke(app, ["fork", "--help"]).stdout.split())
    assert "its own copy of the base" in shown and "--base" in shown and "models/components/x" in shown
