"""Atomic writes and locks."""

import multiprocessing
from pathlib import Path

import pytest

from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.files import atomic_write, try_lock


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
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


def _hold(path: Path, held: object, release: object) -> None:
    with try_lock(path, ArtifactError("busy")):
        held.set()  # type: ignore[attr-defined]
        release.wait()  # type: ignore[attr-defined]


def test_a_lock_that_another_process_holds_raises_the_given_error(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "x.lock", held, release))
    process.start()
    try:
        assert held.wait(60)
        with pytest.raises(ArtifactError, match="busy"), try_lock(tmp_path / "x.lock", ArtifactError("busy")):
            pass
    finally:
        release.set()
        process.join()
    with try_lock(tmp_path / "x.lock", ArtifactError("busy")):
        pass
