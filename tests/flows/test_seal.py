"""Only versions that this project has registered, and that nobody has changed, are loaded."""

import os
import shutil
import sys
import urllib.parse
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cclm_core.runtime.errors import ConfigError
from flows.gate.gate import Verdict
from flows.gate.integrity import find_damage
from flows.gate.overrides import accept, roll_back
from flows.gate.registry import CANDIDATE, CHAMPION, DIGEST_TAG, PREVIOUS, Registry, Version
from flows.gate.seal import KEY_VARIABLE, SEAL_TAG, SealError, check_sealed, sealed_copy
from flows.gate.serving import _texts
from flows.local_secrets import local_secret
from flows.project import Project
from flows.tracking.client import Tracking, TrackingError, connect
from tests.flows.conftest import Toy
from tests.flows.test_servers import register

MODEL = "cclm-both"


@pytest.fixture
def tracking(project: Toy, model: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """A project with version 1 as the champion."""
    monkeypatch.chdir(project.root)
    for name in ("MLFLOW_TRACKING_URI", KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    register(project, model)
    return connect(project)


def version(tracking: Tracking, number: str = "1") -> Version:
    return Registry(tracking).version(MODEL, number)


def location(tracking: Tracking) -> Path:
    """The folder with the files of version 1."""
    uri = MlflowClient(tracking.uri).get_model_version_download_uri(MODEL, "1")
    return Path(urllib.parse.unquote(urllib.parse.urlparse(uri).path))


def never(_uri: str, _tracking: str) -> Verdict:
    raise AssertionError("the version was loaded")


def test_a_registered_version_has_a_valid_seal_and_its_copy_is_checked(tracking: Tracking, tmp_path: Path) -> None:
    one = version(tracking)
    assert one.tags[SEAL_TAG] and find_damage(tracking, one) == ""
    sealed_copy(tracking, MODEL, "1", one.tags, tmp_path / "copy")
    assert (tmp_path / "copy/MLmodel").is_file() and (tmp_path / "copy").stat().st_mode & 0o077 == 0
    loaded: list[str] = []

    def load(uri: str, _tracking: str) -> Verdict:
        """Records what would be loaded."""
        loaded.append(uri)
        return Verdict(True, "")

    assert check_sealed(tracking, MODEL, "1", one.tags, load).passed
    assert not loaded[0].startswith(str(location(tracking))) and loaded[0].endswith("/1")


@pytest.mark.parametrize("change", ["code", "new file", "metadata", "link", "composition"])
def test_changed_files_are_not_loaded(tracking: Tracking, tmp_path: Path, change: str) -> None:
    folder = location(tracking)
    code = next(folder.glob("*.py"))
    if change == "code":
        code.write_text(code.read_text() + "\nprint('hello')\n")
    elif change == "new file":
        (folder / "code/sitecustomize.py").write_text("print('hello')\n")
    elif change == "metadata":
        (folder / "MLmodel").write_text((folder / "MLmodel").read_text() + "\n# hello\n")
    elif change == "link":
        shutil.move(code, tmp_path / "elsewhere.py")
        code.symlink_to(tmp_path / "elsewhere.py")
    else:
        part = next(folder.glob("artifacts/*/parts/*/component.json"))
        part.write_text(part.read_text() + " ")
    one = version(tracking)
    if change != "link":  # the copy has a file in its place, with the same content
        verdict = check_sealed(tracking, MODEL, "1", one.tags, never)
        assert not verdict.passed and "its files are not those that this project registered" in verdict.reason
        with pytest.raises(SealError):
            sealed_copy(tracking, MODEL, "1", one.tags, tmp_path / "copy")
    assert find_damage(tracking, one)


def test_a_version_of_a_stranger_is_neither_served_nor_promoted(tracking: Tracking, tmp_path: Path) -> None:
    """Somebody who can write to the registry copies all tags to a version with other code, and moves the aliases."""
    evil = tmp_path / "evil"
    shutil.copytree(location(tracking), evil)
    next(evil.glob("*.py")).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    client, tags = MlflowClient(tracking.uri), dict(version(tracking).tags)
    for source_tags in (tags, {DIGEST_TAG: tags[DIGEST_TAG]}):
        made = client.create_model_version(MODEL, evil.as_uri(), tags=source_tags)
        for alias in (CHAMPION, CANDIDATE, PREVIOUS):
            client.set_registered_model_alias(MODEL, alias, made.version)
        words = [sys.executable, "-m", "flows.cli", "serve", "both", "--port", "5999"]
        served = Toy(tracking.project.root).run(*words, check=False)
        assert served.returncode == 2 and "is not served: " in served.stderr and "Traceback" not in served.stderr
        with pytest.raises(ConfigError, match="cannot be champion: it is not loaded"):
            accept(tracking.project, "both")
        client.set_registered_model_alias(MODEL, CHAMPION, "1")
        with pytest.raises(ConfigError, match="cannot be champion: it is not loaded"):
            roll_back(tracking.project, "both", "by hand")
    assert not (tmp_path / "ran").exists()


def test_without_a_seal_a_composition_is_registered_again(tracking: Tracking) -> None:
    registry, one = Registry(tracking), version(tracking)
    assert registry.find(MODEL, one.tags[DIGEST_TAG]) == one
    registry.remove_tag(MODEL, "1", SEAL_TAG)
    assert registry.find(MODEL, one.tags[DIGEST_TAG]) is None


def test_another_key_decides_nothing(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "another-key-of-another-clone")
    with pytest.raises(TrackingError, match=r"registered with another key.*copy \.cclm/registry\.key"):
        check_sealed(tracking, MODEL, "1", version(tracking).tags, never)


def test_a_local_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path)
    first = local_secret(project, "CCLM_X", "x.token")
    path = tmp_path / ".cclm/x.token"
    assert (
        len(first) >= 32
        and path.stat().st_mode & 0o777 == 0o600
        and local_secret(project, "CCLM_X", "x.token") == first
    )
    path.chmod(0o644)
    local_secret(project, "CCLM_X", "x.token")
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("CCLM_X", "a secret of my own")
    with pytest.raises(ConfigError, match="CCLM_X must have at least 16 printable ASCII characters without spaces"):
        local_secret(project, "CCLM_X", "x.token")
    monkeypatch.setenv("CCLM_X", "a-secret-of-my-own")
    assert local_secret(project, "CCLM_X", "x.token") == "a-secret-of-my-own"
    monkeypatch.delenv("CCLM_X")
    for content in ("", "short"):
        path.write_text(content)
        with pytest.raises(ConfigError, match=r"x\.token must have at least 16"):
            local_secret(project, "CCLM_X", "x.token")
    path.unlink()
    path.symlink_to(os.devnull)
    with pytest.raises(ConfigError, match="must be a file of your own"):
        local_secret(project, "CCLM_X", "x.token")


def test_what_is_no_text_is_refused_with_index_and_type() -> None:
    with pytest.raises(ValueError, match="text 1 must be a string, got NoneType: None"):
        _texts(["a", None])
