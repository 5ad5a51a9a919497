"""`cclm init --recipe`, and the recipes that come with sample data: a tiny run of each."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from cclm_core.cli.app import app
from cclm_core.evaluation.metrics import read_metrics
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ConfigError

RECIPES = Path(__file__).parents[2] / "recipes"
METRICS = {
    "tickets": "label_accuracy",
    "entities": "entity_f1_clean",
    "chat": "author_context_gain",
}
"""Recipe with sample data -> a metric of its evaluation."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone in which nothing was changed, as the working directory."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    shutil.copytree(RECIPES, tmp_path / "recipes")
    for command in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "new"),
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cclm(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.usefixtures("project")
def test_recipes_are_listed_with_what_they_are_for() -> None:
    output = cclm("init", "--recipe", "list").output
    assert {line.split()[0] for line in output.splitlines()[:-2]} == {path.stem for path in RECIPES.glob("*.yaml")}
    assert "Labels of short texts" in output


def test_a_recipe_replaces_params_yaml_and_keeps_files_of_the_user(project: Path) -> None:
    (project / "input").mkdir()
    (project / "input/tickets.csv").write_text("text,category\nmine,a\n")
    assert "input/tickets.csv exists and is used as it is" in cclm("init", "--recipe", "tickets").output
    assert (project / "input/tickets.csv").read_text() == "text,category\nmine,a\n"
    assert (project / "params.yaml").read_bytes() == (RECIPES / "tickets.yaml").read_bytes()
    cclm("init", "--recipe", "plays")  # what `cclm init` wrote may be replaced
    (project / "params.yaml").write_text("seed: 2\n")
    with pytest.raises(ConfigError, match="has changes that are not in git"):
        cclm("init", "--recipe", "chat")
    assert (project / "params.yaml").read_text() == "seed: 2\n" and not (project / "input/chat.csv").exists()
    assert "The former params.yaml is" in cclm("init", "--recipe", "chat", "--force").output
    (kept,) = project.glob(".cclm/replaced/*/params.yaml")
    assert kept.read_text() == "seed: 2\n"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "tikets"], r"--recipe tikets not found in recipes; did you mean 'tickets'"),
        (["--recipe", "tickets", "a.csv"], "cannot be combined"),
        (["--recipe", "tickets", "--text", "body"], "cannot be combined"),
        ([], r"name your files, .* or take a recipe"),
    ],
)
def test_unclear_calls_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cclm("init", *arguments)


@pytest.mark.parametrize("recipe", METRICS)
def test_every_sample_text_is_read(project: Path, recipe: str) -> None:
    cclm("init", "--recipe", recipe)
    values = yaml.safe_load((project / "params.yaml").read_text())
    stage("ingest", "--downloads", "downloads", out="data/corpus")
    assert not (project / "data/corpus/quarantine.jsonl").read_text()
    for name in values["labeled"]:
        stage("labeled", name, "--downloads", "downloads", out=f"data/labeled/{name}")
        assert not read_json(project / f"data/labeled/{name}/metrics.json")["warnings"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", METRICS)
def test_a_recipe_runs_on_its_sample_data(project: Path, recipe: str) -> None:
    cclm("init", "--recipe", recipe)
    values = shortened(project / "params.yaml")
    encoded = ["--encoded", "data/encoded"]
    stage("ingest", "--downloads", "downloads", out="data/corpus")
    for name in values["labeled"]:
        stage("labeled", name, "--downloads", "downloads", out=f"data/labeled/{name}")
    stage("vocab", "--corpus", "data/corpus", out="data/encoded")
    stage("noise", "--corpus", "data/corpus", out="data/noise")
    stage("base", *encoded, "--checkpoints", "checkpoints/base", out="models/base")
    for part in values["components"]:
        trained = ["--base", "models/base", "--checkpoints", f"checkpoints/{part}"]
        stage("pretrain", part, *encoded, *trained, out=f"models/components/{part}")
    stage("compose", "full", "--base", "models/base", "--components", "models/components", out="models/full")
    stage("evaluate", "full", "--composition", "models/full", *encoded, "--noise", "data/noise", out="results/full")
    assert METRICS[recipe] in read_metrics(project / "results/full")


def stage(name: str, *arguments: str, out: str) -> None:
    cclm("stage", name, *arguments, "--params", "params.yaml", "--out", out)


def shortened(path: Path) -> dict[str, Any]:
    """Writes the recipe with a few steps and a tiny encoder, and returns it."""
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    tiny = {"steps": 2, "batch_size": 4, "window": 64, "evaluation_windows": 4}
    values["base"]["training"] = tiny
    values["base"]["embedder"]["encoder"] |= {"core_width": 32, "num_layers": 1, "num_heads": 2, "width": 32}
    for component in values["components"].values():
        component["training"] = tiny
    values["noise"]["max_documents"] = 20
    values["noise"]["rates"] = [0.1]
    path.write_text(yaml.safe_dump(values))
    return values
