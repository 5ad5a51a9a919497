"""One real shelf for all tests: git, DVC and a folder as storage. Tests that change it get a copy."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import save
from cclm_core.encoders.embedder import Embedder
from cclm_core.shelf import About, Shelf
from tests.composition.test_composed import component, embedder

NAME = "plays"
ABOUT = About("CC0-1.0", "characters of plays", {"bits": 2.5})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips these tests, by name, if DVC is not installed (extra `shelf`)."""
    if find_spec("dvc") is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="a shelf needs DVC: pip install 'cclm-core[shelf]'"))


def git(folder: Path, *arguments: str) -> str:
    """Runs git for a test."""
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def saved(model: Embedder | ComposedModel, folder: Path) -> Path:
    """Saves a model into a new folder."""
    folder.mkdir(parents=True)
    save(model, folder)
    return folder


@dataclass(frozen=True)
class LocalShelf:
    """A local shelf and its storage."""

    folder: Path
    store: Path

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.folder)

    def commit(self, message: str = "a manual change") -> None:
        git(self.folder, "commit", "--quiet", "--all", "--message", message)

    def state(self) -> tuple[str, str, dict[str, bytes]]:
        """Everything that a failed publication must not change: refs, status and files."""
        files = {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(self.folder).parts
        }
        return git(self.folder, "for-each-ref"), git(self.folder, "status", "--porcelain"), files


@pytest.fixture(scope="session", autouse=True)
def identity(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Sets a committer, and replaces the developer's git and DVC settings by ones that fetching must ignore."""
    settings = tmp_path_factory.mktemp("settings")
    (settings / "config").write_text(f"[core]\n    remote = none\n[cache]\n    dir = {settings / 'cache'}\n")
    committer = {"NAME": "test", "EMAIL": "test@example.invalid"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in committer.items():
            patch.setenv(f"GIT_AUTHOR_{name}", value)
            patch.setenv(f"GIT_COMMITTER_{name}", value)
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(settings))
        patch.setenv("DVC_SYSTEM_CONFIG_DIR", str(settings))
        patch.delenv("CCLM_SHELF", raising=False)
        yield


@pytest.fixture(scope="session")
def old() -> Embedder:
    return embedder(1)


@pytest.fixture(scope="session")
def new() -> Embedder:
    return embedder(2)


@pytest.fixture(scope="session")
def composed(new: Embedder) -> ComposedModel:
    return ComposedModel(new, [component(new, "first", 16), component(new, "second", 24)], "pair").eval()


@pytest.fixture(scope="session")
def original(
    tmp_path_factory: pytest.TempPathFactory, old: Embedder, new: Embedder, composed: ComposedModel
) -> LocalShelf:
    """Tag v1: an embedder; v2: a new version of it; v3: adds a composition of the same name."""
    root = tmp_path_factory.mktemp("original")
    local = LocalShelf(root / "shelf", root / "store")
    shelf = Shelf.create(local.folder, local.store)
    config = local.folder / ".dvc" / "config"
    config.write_text(config.read_text().replace(str(local.store), "../../store"))  # shelf and storage move together
    local.commit()
    shelf.publish(saved(old, root / "old"), NAME, "embedder", about=ABOUT, tag="v1")
    shelf.publish(saved(new, root / "new"), NAME, "embedder", about=ABOUT, tag="v2")
    shelf.publish(saved(composed, root / "composed"), NAME, "composition", about=ABOUT, tag="v3")
    return local


@pytest.fixture
def local(original: LocalShelf, tmp_path: Path) -> LocalShelf:
    """A copy of the shelf that the test may change."""
    copy = LocalShelf(tmp_path / "shelf", tmp_path / "store")
    shutil.copytree(original.folder, copy.folder)
    shutil.copytree(original.store, copy.store)
    return copy
