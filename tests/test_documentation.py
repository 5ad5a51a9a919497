"""The documentation is true: code blocks run as written and can be pasted twice, configurations load, links resolve."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import Dataset
from typer.testing import CliRunner

import cclm_core
from cclm_core.cli.app import app
from cclm_core.finetuning.config import EnsembleConfig, TaskConfig
from cclm_core.noise.recipe import TrainingNoise
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.ingest import ingest
from cclm_core.steps.params import Params
from cclm_core.training.config import BaseConfig, ComponentConfig
from tests.shelf.conftest import identity

__all__ = ["identity"]

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("*/README.md")])


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a Markdown page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def run(page: Path, code: list[str], variables: dict[str, Any]) -> None:
    for block in code:
        exec(compile(block, str(page), "exec"), variables)


@pytest.mark.skipif(find_spec("dvc") is None, reason="a shelf needs DVC: pip install 'cclm-core[shelf]'")
@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("list", 1),
        pytest.param("list", 2, marks=pytest.mark.slow),
        pytest.param("dataset", 2, marks=pytest.mark.slow),
    ],
)
def test_the_walkthrough_runs_on_a_list_and_on_a_dataset_and_again_when_it_is_pasted_twice(
    kind: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = DOCS / "walkthrough.md"
    texts, *steps = blocks(page, "python")
    variables: dict[str, Any] = {}
    for _ in range(times):
        run(page, [texts], variables)
        if kind == "dataset":
            variables["texts"] = Dataset.from_dict({"text": variables["texts"]})
        run(page, steps, variables)

    composed, parts = variables["composed"], [variables[name].model for name in ("characters", "words", "ahead")]
    assert variables["features"].shape == (1, len("cclm is neat"), sum(part.width for part in parts))
    assert not any(parameter.requires_grad for parameter in variables["embedder"].parameters())
    shares = variables["labels"][1::2].bincount() / len(variables["labels"][1::2])
    assert variables["accuracy"] > shares.max() + 0.2
    for local, fetched in zip(composed.embed(["teh parcle never came", ""]), variables["vectors"], strict=True):
        assert np.array_equal(local, fetched)


def test_the_library_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    variables: dict[str, Any] = {}
    run(DOCS / "walkthrough.md", blocks(DOCS / "walkthrough.md", "python")[:1], variables)
    run(DOCS / "library.md", blocks(DOCS / "library.md", "python"), variables)
    trained = [variables[name].model for name in ("base", "words", "ahead", "robust", "edges")]
    assert cclm_core.ComposedModel(variables["embedder"], trained).width == sum(part.width for part in trained)
    result = CliRunner().invoke(
        app, ["generate", "my order", "--component", "models/ahead", "--base", "models/base"], catch_exceptions=False
    )
    assert result.exit_code == 0 and len(result.output) > len("my order")


def test_the_page_on_own_data_starts_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = DOCS / "own-data.md"
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    rows = [f"message {number} of this file,topic {number % 3}\n" for number in range(90)]
    Path("tickets.csv").write_text(blocks(page, "csv")[0] + "".join(rows), encoding="utf-8")
    sentence = blocks(page, "conll")[0] + "\n"
    for name in ("train", "dev", "test"):
        sentences = (sentence.replace("Anna", f"Anna-{name}-{number}") for number in range(60))
        Path(f"{name}.conll").write_text("".join(sentences), encoding="utf-8")
    commands = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("cclm init")]
    entities = next(line for line in commands if "conll" in line)
    for command in ("init tickets.csv", f"{entities.removeprefix('cclm ')} --force"):
        result = CliRunner().invoke(app, command.split(), catch_exceptions=False)
        assert result.exit_code == 0
        params = Params.load("params.yaml")
        params.check()
        if command == "init tickets.csv":
            ingest(params, Path("downloads"), Path("corpus"), null_report, workers=1)
            assert '"records":92' in Path("corpus/metrics.json").read_text().replace(" ", "")


@pytest.mark.parametrize("page", ["tasks.md", "ensembles.md"])
def test_the_tasks_of_the_pages_on_tasks_are_valid(page: str) -> None:
    sections = yaml.safe_load(blocks(DOCS / page, "yaml")[0])
    for name, task in sections["tasks"].items():
        TaskConfig.parse(task, f"tasks.{name}")
    for name, ensemble in sections.get("ensembles", {}).items():
        parts = EnsembleConfig.parse(ensemble, f"ensembles.{name}").parts
        assert set(parts) <= sections["tasks"].keys()


def test_the_settings_of_the_page_on_objectives_are_valid() -> None:
    sections = [yaml.safe_load(block) for block in blocks(DOCS / "objectives.md", "yaml")]
    for params in map(Params, sections):
        params.section(BaseConfig), params.section(TrainingNoise)
        for name in params.names(ComponentConfig):
            params.named(ComponentConfig, name)
    objectives = {part["task"]["objective"] for section in sections for part in section.get("components", {}).values()}
    assert {"detect", "next_characters", "whole_texts", "distill", "vectors", "entities"} <= objectives


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))  # in code, brackets are no links
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" not in target:
                yield page, target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as repository hosts derive them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "target"), links(), ids=lambda value: getattr(value, "name", value))
def test_links_between_pages_resolve(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists(), f"{page.name} links to {target}, which does not exist"
    assert not anchor or anchor in anchors(file), f"{page.name} links to {target}: no such heading"


def test_every_public_name_exists() -> None:
    for name in cclm_core.__all__:
        assert getattr(cclm_core, name).__name__ == name
