"""Checking the whole of `params.yaml`: what is wrong is said before anything runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cclm_core.runtime.errors import ConfigError
from cclm_core.steps.check import check

DEFAULTS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
WORDS = {"task": {"objective": "masked_words"}}


def checked(folder: Path, **sections: Any) -> None:
    params = folder / "params.yaml"
    params.write_text(yaml.safe_dump(DEFAULTS | sections))
    check(params)


def test_the_parameters_of_the_project_are_right(tmp_path: Path) -> None:
    checked(tmp_path)


@pytest.mark.parametrize("sections", [{"base": {"objectives": [{}, WORDS]}}, {"components": {"words": WORDS}}])
def test_words_need_a_vocabulary_with_word_targets(tmp_path: Path, sections: dict[str, Any]) -> None:
    place = r"base\.objectives\.1" if "base" in sections else r"components\.words"
    with pytest.raises(ConfigError, match=rf"{place} trains on masked_words, .* Set vocabulary\.words"):
        checked(tmp_path, **sections)
    checked(tmp_path, vocabulary={"words": {}}, **sections)
