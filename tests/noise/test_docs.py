"""The examples in docs/noise.md and in docstrings run and print the expected output."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import cclm_core.noise

DOCS = Path(__file__).parents[2] / "docs" / "noise.md"


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(cclm_core.noise.__path__)])
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"cclm_core.noise.{name}")).failed == 0


def test_examples_in_docs() -> None:
    result = doctest.testfile(str(DOCS), module_relative=False)
    assert result.attempted > 8
    assert result.failed == 0


def test_public_names_are_exported() -> None:
    assert all(hasattr(cclm_core.noise, name) for name in cclm_core.noise.__all__)
    assert cclm_core.noise.attack.__module__ == "cclm_core.noise.adversarial"
