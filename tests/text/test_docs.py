"""The examples in the docs and the docstrings run and print the expected output."""

import doctest
import importlib
from pathlib import Path

import pytest

MODULES = (
    "alignment",
    "alphabet",
    "batch_map",
    "code_points",
    "normalization",
    "scripts",
    "texts",
    "tokenizer",
    "vocabulary",
    "word_targets",
    "words",
)
DOCS = Path(__file__).parents[2] / "docs" / "text.md"


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_a_module(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"cclm_core.text.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_examples_in_docs_text_md() -> None:
    result = doctest.testfile(str(DOCS), module_relative=False)
    assert result.attempted > 15
    assert result.failed == 0
