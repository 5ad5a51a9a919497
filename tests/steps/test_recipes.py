"""The files in recipes/ are complete and valid params.yaml files."""

import re
from pathlib import Path

import pytest

from cclm_core.encoders.embedder import Embedder
from cclm_core.ingest.config import IngestConfig
from cclm_core.ingest.named import named_function
from cclm_core.ingest.sources.archive import ArchiveConfig
from cclm_core.runtime.config import load_yaml
from cclm_core.steps.params import Params
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig
from cclm_core.training.config import BaseConfig

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def test_the_recipe_of_the_plays_is_the_default_run() -> None:
    default = load_yaml(Path(__file__).parents[2] / "params.yaml")
    assert load_yaml(RECIPES[0].with_name("plays.yaml")) == default


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_says_what_it_is_for_and_explains_its_sections(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    sections = [number for number, line in enumerate(lines) if re.match(r"\w", line)]
    silent = [lines[number] for number in sections if "#" not in lines[number] + lines[number - 1]]
    assert path.name == "base-small.yaml" or not silent, silent


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_passes_the_checks_of_a_run(path: Path) -> None:
    params = Params.load(path)
    params.check()
    for member in params.section(IngestConfig).sources:
        if isinstance(member.source, ArchiveConfig):
            assert callable(named_function(member.source.parser))


def test_the_recipe_of_a_larger_base_has_one() -> None:
    base = Params.load(RECIPES[0].with_name("base-small.yaml")).section(BaseConfig)
    embedder = Embedder(Preprocessor(VocabularyConfig()).fit(["To be, or not to be"]), base.embedder)
    parameters = sum(parameter.numel() for parameter in embedder.parameters())
    assert 10e6 < parameters < 50e6
    start = base.training.average_start
    assert start is not None and base.training.warmup_steps < start < base.training.steps
