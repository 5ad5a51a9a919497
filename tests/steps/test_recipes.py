"""The files in recipes/ are complete and valid params.yaml files."""

from pathlib import Path

import pytest

from cclm_core.encoders.embedder import Embedder
from cclm_core.ingest.config import IngestConfig
from cclm_core.ingest.named import named_function
from cclm_core.ingest.sources.archive import ArchiveConfig
from cclm_core.steps.params import Params
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig
from cclm_core.training.config import BaseConfig

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def test_there_is_a_recipe() -> None:
    assert [path.name for path in RECIPES] == ["base-small.yaml"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_passes_the_checks_of_a_run(path: Path) -> None:
    params = Params.load(path)
    params.check()
    for member in params.section(IngestConfig).sources:
        if isinstance(member.source, ArchiveConfig):
            assert callable(named_function(member.source.parser))
    base = params.section(BaseConfig)
    embedder = Embedder(Preprocessor(VocabularyConfig()).fit(["To be, or not to be"]), base.embedder)
    parameters = sum(parameter.numel() for parameter in embedder.parameters())
    assert 10e6 < parameters < 50e6
    start = base.training.average_start
    assert start is not None and base.training.warmup_steps < start < base.training.steps
