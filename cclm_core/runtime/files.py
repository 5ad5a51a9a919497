"""Paths, atomic file writes, and locks that the operating system releases when a process dies.

```
as_path(path)                 the one door for paths: `str | PathLike` becomes a `Path`, checked
atomic_write(path, content)   replaces a file; readers see the old or the new one, even after a power failure
copy_file(source, target)     the same, with the content of another file
atomic_open(path)             the same, as a stream
flush_folder(folder)          makes renames and deletions in a folder durable
try_lock(path, error)         takes a lock without waiting, or raises `error`
```
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from cclm_core.runtime.errors import ArtifactError, ConfigError

StrPath = str | os.PathLike[str]
"""A path as every public function takes it."""

_NAME_BYTES = 255  # the longest name of a file on the usual file systems


def as_path(path: StrPath, name: str = "path") -> Path:
    """Returns `path` as a `Path`. Every public function that takes a path passes it through here.

    Args:
        path: a string or a path-like object.
        name: the name of the argument in messages.

    Raises:
        ConfigError: another type, an empty string, or a name that no file can have.

    >>> as_path("data/corpus").name
    'corpus'
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise ConfigError(f"`{name}` must be a string or a path, got {type(path).__name__}: {path!r:.80}.")
    text = os.fspath(path)
    try:
        longest = max((len(os.fsencode(part)) for part in Path(text).parts), default=0)
    except UnicodeEncodeError:
        raise ConfigError(f"`{name}` must not contain lone surrogates, got {text!r:.80}. Rename it.") from None
    if not text or "\0" in text:
        raise ConfigError(f"`{name}` must not be empty or contain NUL, got {text!r:.80}.")
    if longest > _NAME_BYTES:
        raise ConfigError(
            f"`{name}` must consist of names of at most {_NAME_BYTES} bytes, got {longest}: {text!r:.80}. Shorten it."
        )
    return Path(text)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Replaces `path` with `content`; text is UTF-8. See `atomic_open`."""
    with atomic_open(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_open(path: Path, shared: bool = False) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces `path` if the block succeeds: fsync, rename, fsync of the folder.

    The temporary file is `.NAME.writing` in the same folder. If a process is killed, the next write replaces it.

    Args:
        path: the file to write.
        shared: whether several processes may write `path` at the same time; adds the pid to the temporary name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing" if shared else f".{path.name}.writing")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def copy_file(source: Path, target: Path | None) -> None:
    """Copies a file atomically and creates missing folders; does nothing if `target` is None."""
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, source.read_bytes())


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder and below, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def flush_folder(folder: Path) -> None:
    """Makes created, renamed and deleted files in `folder` durable: they survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Makes a folder and everything in it durable."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with (Path(parent) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        flush_folder(Path(parent))


@contextmanager
def try_lock(path: Path, error: Exception, reentrant: bool = False) -> Iterator[None]:
    """Holds the lock file `path` for the block.

    Args:
        path: the lock file; its folder is created if it is missing.
        error: raised if the lock is taken.
        reentrant: whether the thread that holds the lock may take it again.

    Raises:
        Exception: `error`, immediately, if another process holds the lock.
        ArtifactError: the lock file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0, is_singleton=reentrant)
        lock.acquire()
    except Timeout:
        raise error from None
    except OSError as problem:
        raise ArtifactError(
            f"{path} cannot be written: {problem.strerror or problem}. Check permissions and free space."
        ) from None
    try:
        yield
    finally:
        lock.release()
