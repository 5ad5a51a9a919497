"""Writing files atomically, and locks that the operating system frees when a process dies.

```
atomic_write(path, content)   the reader sees the old file or the new one, also after a power cut
copy_file(source, target)     the same, with the content of another file
atomic_open(path)             the same for a stream
flush_folder(folder)          makes renames and removals in a folder durable
try_lock(path, error)         takes a lock now, or raises `error`
```
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout


def atomic_write(path: Path, content: bytes | str) -> None:
    """Replaces `path` with `content`; text is UTF-8. See `atomic_open`."""
    with atomic_open(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_open(path: Path, shared: bool = False) -> Iterator[BinaryIO]:
    """Opens a temporary sibling that replaces `path` if the block succeeds: fsync, rename, fsync of the folder.

    The sibling is named `.NAME.writing`. A process that is killed may leave it; the next write replaces it.

    Args:
        path: the file to write.
        shared: whether several processes may write `path` at the same time; their siblings are then named by pid.
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
    """Copies a file atomically; does nothing if `target` is None. Missing folders are created."""
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, source.read_bytes())


def flush_folder(folder: Path) -> None:
    """Makes files that were created, renamed or removed in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Makes a folder and everything in it survive a power cut."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with (Path(parent) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        flush_folder(Path(parent))


@contextmanager
def try_lock(path: Path, error: Exception, reentrant: bool = False) -> Iterator[None]:
    """Holds the lock file `path` for the block.

    Args:
        error: raised if the lock is taken.
        reentrant: whether the thread that holds the lock may take it again.

    Raises:
        Exception: `error`, if another process holds the lock. The call does not wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0, is_singleton=reentrant)
    try:
        lock.acquire()
    except Timeout:
        raise error from None
    try:
        yield
    finally:
        lock.release()
