"""The examples in docstrings run and print the expected output."""

import doctest
import importlib
import pkgutil

import pytest

import cclm_core.applications


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(cclm_core.applications.__path__)])
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"cclm_core.applications.{name}")).failed == 0
