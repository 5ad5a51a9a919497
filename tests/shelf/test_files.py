"""The files of an item: copied with their digests, compared with a card; no links, pipes or pickles."""

import hashlib
import os
from pathlib import Path

import pytest

from cclm_core.runtime.errors import ArtifactError, IntegrityError
from cclm_core.shelf.files import check, copy, regular_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    item = tmp_path / "item"
    (item / "parts").mkdir(parents=True)
    (item / "a.json").write_bytes(b"{}")
    (item / "parts" / "w.safetensors").write_bytes(b"weights")
    return item


def test_files_are_copied_with_their_digests(folder: Path, tmp_path: Path) -> None:
    files = copy(dict(regular_files(folder)), tmp_path / "copy")
    assert [file.path for file in files] == ["a.json", "parts/w.safetensors"]
    assert files[1].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (files[1].size, files[1].md5) == (7, hashlib.md5(b"weights").hexdigest())
    check(tmp_path / "copy", files)


def test_missing_unexpected_and_altered_files_are_named(folder: Path) -> None:
    files = copy(dict(regular_files(folder)), folder.with_name("copy"))
    weights = folder / "parts" / "w.safetensors"
    for content in (b"Weights", b"weights "):
        weights.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"'parts/w.safetensors' is altered"):
            check(folder, files)
    weights.unlink()
    with pytest.raises(IntegrityError, match=r"'parts/w.safetensors' is missing"):
        check(folder, files)
    weights.write_bytes(b"weights")
    (folder / "more.json").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"'more.json' is unexpected"):
        check(folder, files)


@pytest.mark.parametrize("target", ["a.json", "/etc/hostname", "parts", "nowhere"])
def test_links_are_refused(folder: Path, target: str) -> None:
    (folder / "link.json").symlink_to(target)
    for read in (lambda: dict(regular_files(folder)), lambda: check(folder, [])):
        with pytest.raises(IntegrityError, match=r"link.json' must be a regular file"):
            read()


def test_pipes_are_refused_without_blocking(folder: Path) -> None:
    os.mkfifo(folder / "pipe.json")
    with pytest.raises(IntegrityError, match=r"pipe.json' must be a regular file"):
        dict(regular_files(folder))


def test_pickles_and_empty_items_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(IntegrityError, match="never a pickle"):
        copy(dict(regular_files(folder)), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(ArtifactError, match="must have at least one file"):
        copy({}, tmp_path / "copy")
