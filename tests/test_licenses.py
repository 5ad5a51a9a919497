"""docs/licenses.md covers every runtime dependency, with its license."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
needs_all_extras = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mlflow", "dvc", "datasets", "model_signing")),
    reason="the extras that the page covers are not installed",
)


@pytest.fixture(scope="module")
def licenses() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licenses", ROOT / ".ci" / "licenses.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table() -> dict[str, tuple[str, str]]:
    rows = re.findall(
        r"^\| ([a-z0-9-]+) \| ([^|]+) \| (yes)? *\|$", (ROOT / "docs" / "licenses.md").read_text(), re.MULTILINE
    )
    return {name: (license.strip(), copyleft) for name, license, copyleft in rows}


@needs_all_extras
def test_every_runtime_dependency_is_listed_with_its_license(
    licenses: ModuleType, table: dict[str, tuple[str, str]]
) -> None:
    installed = {name: licenses.license_of(package) for name, package in licenses.closure().items()}
    assert {"torch", "mlflow", "dvc", "prefect", "model-signing"} <= set(installed)
    assert all(installed.values())
    missing = {name: license for name, license in installed.items() if table.get(name, ("", ""))[0] != license}
    assert not missing, "run .ci/licenses.py"


@needs_all_extras
def test_the_lock_files_hold_every_runtime_dependency(licenses: ModuleType) -> None:
    lines = "".join(path.read_text() for path in sorted(ROOT.glob("requirements*")))
    locked = re.findall(r"^([A-Za-z0-9._-]+)==", lines, re.MULTILINE)
    assert set(licenses.closure()) <= {licenses.canonicalize_name(name) for name in locked}


def test_every_copyleft_license_is_explained(licenses: ModuleType, table: dict[str, tuple[str, str]]) -> None:
    page = (ROOT / "docs" / "licenses.md").read_text()
    explained = page[: page.index(licenses.HEADER)]
    copyleft = {name for name, (license, _) in table.items() if licenses.COPYLEFT.search(license)}
    assert copyleft == {name for name, (_, marked) in table.items() if marked}
    assert {"pygit2", "certifi", "asyncssh"} <= copyleft
    assert not [name for name in copyleft if name not in explained]
