"""Atomic writes and locks."""

import multiprocessing
from pathlib import Path

import pytest

from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.files import atomic_write, try_lock


def test_atomic_write_replaces_a_file_with_text_or_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    atomic_write(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        atomic_write(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def _hold_lock(path: Path, acquired: object, release: object) -> None:
    with try_lock(path, ArtifactError("busy")):
        acquired.set()  # type: ignore[attr-defined]
        release.wait()  # type: ignore[attr-defined]


def test_try_lock_raises_the_given_error_if_another_process_holds_the_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    acquired, release = context.Event(), context.Event()
    process = context.Process(target=_hold_lock, args=(tmp_path / "x.lock", acquired, release))
    process.start()
    try:
        assert acquired.wait(60)
        with pytest.raises(ArtifactError, match="busy"), try_lock(tmp_path / "x.lock", ArtifactError("busy")):
            pass
    finally:
        release.set()
        process.join()
    with try_lock(tmp_path / "x.lock", ArtifactError("busy")):
        pass
