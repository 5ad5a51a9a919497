"""The stages `pretrain` and `compose` with compositions as base and as part, and `cclm fork`."""

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
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.compose import compose
from cclm_core.steps.params import Params
from tests.corpora import encode, records
from tests.encoders.shapes import text
from tests.steps.test_training_steps import ENCODER, PARAMS, TRAINING, Project

LONGER = TRAINING | {"steps": 60, "batch_size": 8, "evaluation_windows": 8}
OVER = {"task": {"objective": "entities"}, "encoder": ENCODER, "training": LONGER}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A base, two components, the composition `pair` of both, and a component `over` that was trained over it."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.write(PARAMS | {"components": {**PARAMS["components"], "over": OVER}})  # type: ignore[dict-item]
    encode(project.encoded, records(40))
    project.run_base()
    for name in ("masked_characters", "entities"):
        project.run_pretrain(name)
    compose(Params.load(project.params), "pair", project.base, project.folder, project.folder / "pair", null_report)
    project.run_pretrain("over", base=project.folder / "pair")
    return project


def test_a_component_learns_over_a_frozen_composition(trained: Project) -> None:
    composition = load(trained.folder / "pair")
    assert isinstance(composition, ComposedModel)
    verify(trained.folder / "pair", "composition")
    training_card = json.loads((trained.folder / "over" / "card.json").read_text())
    assert training_card["base"] == folder_digest(trained.folder / "pair")
    card = load_component(trained.folder / "over").card
    assert card.base_digest == composition.digest and card.base_width == composition.width
    rows = [line.split(",") for line in (trained.folder / "over" / "curve.csv").read_text().splitlines()]
    curve = [float(row[rows[0].index("held_out_bits_per_tag")]) for row in rows[1:]]
    assert curve[-1] < 0.7 * curve[0]


def test_a_composition_can_be_a_base_or_a_part_and_have_an_untrained_control(trained: Project, tmp_path: Path) -> None:
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
        compose(Params.load(project.params), name, trained.folder / base, trained.folder, tmp_path / name, null_report)
        verify(tmp_path / name, "composition")
    both, new = (load_composition(tmp_path / name) for name in ("both", "new"))
    assert list(both.features(text(3))) == ["entities", "pair", "pair/masked_characters", "pair/entities"]
    assert sum(isinstance(module, Embedder) for module in both.modules()) == 1
    assert both.base.digest == new.base.digest and both.digest != new.digest
    metrics = json.loads((tmp_path / "both" / "metrics.json").read_text())
    models = [
        load_base(trained.base),
        *(load(trained.folder / name) for name in ("entities", "entities", "masked_characters")),
    ]
    assert metrics["parameters"] == sum(weight.numel() for model in models for weight in model.parameters())
    with pytest.raises(CompositionError, match=r"'over' was trained on another base"):
        compose(Params.load(project.params), "wrong", trained.base, trained.folder, tmp_path / "wrong", null_report)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(("name", "base"), [("entities", "base"), ("over", "pair")])
def test_fork_copies_the_head_and_rejects_an_independent_component(
    trained: Project, tmp_path: Path, name: str, base: str
) -> None:
    component, base_folder, out = (
        str(path) for path in (trained.folder / name, trained.folder / base, tmp_path / "fork")
    )
    before = folder_digest(trained.folder / name)
    result = CliRunner().invoke(app, ["fork", component, out, "--base", base_folder], catch_exceptions=False)
    assert result.exit_code == 0 and "independent of any base" in " ".join(result.stdout.split())
    verify(tmp_path / "fork", "component")
    fork, part, own_base = (
        load_component(tmp_path / "fork"),
        load_component(trained.folder / name),
        load_base(Path(base_folder)),
    )
    assert torch.equal(OverBase(load_base(trained.base), fork)(text(9)), OverBase(own_base, part)(text(9)))
    for file in ("head.safetensors", "curve.csv"):
        assert (tmp_path / "fork" / file).read_bytes() == (trained.folder / name / file).read_bytes()
    card = json.loads((tmp_path / "fork" / "card.json").read_text())
    assert card["data"] == folder_digest(trained.encoded)
    assert card["component"] == before == folder_digest(trained.folder / name)
    metrics, old_metrics = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "fork", trained.folder / name)
    )
    assert metrics["parameters"] > old_metrics["parameters"]
    assert metrics | {"parameters": 0} == old_metrics | {"parameters": 0}
    with pytest.raises(CclmError, match="independent"):
        CliRunner().invoke(app, ["fork", out, str(tmp_path / "again"), "--base", base_folder], catch_exceptions=False)
    assert not (tmp_path / "again").exists()


def test_fork_rejects_another_base_and_has_help(trained: Project, tmp_path: Path) -> None:
    arguments = ["fork", str(trained.folder / "over"), str(tmp_path / "fork"), "--base", str(trained.base)]
    with pytest.raises(CompositionError, match="was trained on another base"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not (tmp_path / "fork").exists()
    help_text = " ".join(CliRunner().invoke(app, ["fork", "--help"]).stdout.split())
    assert "--base" in help_text and "together with its base" in help_text
