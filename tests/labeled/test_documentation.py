"""The examples of docs/labeled.md are valid."""

import re
from pathlib import Path

import pytest
import yaml

from cclm_core.labeled.config import LabeledConfig
from cclm_core.steps.params import Params

PAGE = Path(__file__).parents[2] / "docs" / "labeled.md"
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_of_the_page_are_valid(number: int) -> None:
    params = Params(yaml.safe_load(EXAMPLES[number]))
    assert [params.named(LabeledConfig, name).task for name in params.names(LabeledConfig)]


def test_the_page_has_an_example_of_every_task() -> None:
    tasks = {entry["task"] for example in EXAMPLES for entry in yaml.safe_load(example)["labeled"].values()}
    assert tasks == {"classify", "multilabel", "regress", "tag"}
