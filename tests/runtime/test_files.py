"""Atomic writes and locks."""

import multiprocessing
from pathlib import Path

import pytest

from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.files import as_path, atomic_write, try_lock


def test_strings_and_paths_are_paths_whatever_their_characters() -> None:
    for name in ("data/corpus", "ä %2F?#&[x]: *\"'", ".", "x" * 255, "line\nbreak", "\udcff"):
        assert as_path(name) == as_path(Path(name)) == Path(name)


@pytest.mark.parametrize(
    "path, message",
    [
        (None, "must be a string or a path, got NoneType"),
        (5, "must be a string or a path, got int: 5"),
        (b"data", "must be a string or a path, got bytes"),
        (["data"], "must be a string or a path, got list"),
        ("", "must not be empty"),
        ("a\0b", "must not be empty or contain NUL"),
        ("a\ud800", "must not contain lone surrogates"),
        ("data/" + "x" * 256, "must consist of names of at most 255 bytes, got 256"),
        ("é" * 128, "must consist of names of at most 255 bytes, got 256"),
    ],
)
def test_what_is_no_path_is_refused_with_the_name_of_the_argument(path: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"`folder` {message}"):
        as_path(path, "folder")  # type: ignore[arg-type]


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
