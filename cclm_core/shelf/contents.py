"""The files of an item: listed with their digests, copied and compared with what a card promises."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path

from pydantic import Field

from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ArtifactError, IntegrityError
from cclm_core.shelf.names import check_file_names

BLOCK = 1 << 20


class ItemFile(Config):
    """One file of an item."""

    path: str = Field(description="relative to the item's folder, `/` between its parts")
    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="what its bytes are checked against")
    md5: str = Field(pattern="^[0-9a-f]{32}$", description="its key in DVC's storage; never a check of its bytes")


def regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The relative path and the path of each file below `folder`, in order of their names.

    Raises:
        IntegrityError: a symbolic link or a special file is among them.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            for name, path in regular_files(Path(entry.path)):
                yield f"{entry.name}/{name}", path
        elif entry.is_file(follow_symlinks=False):
            yield entry.name, Path(entry.path)
        else:
            raise IntegrityError(f"{entry.path} must be a regular file: links and special files do not travel.")


def copy(sources: Iterable[tuple[str, Path]], target: Path) -> tuple[ItemFile, ...]:
    """Copies files to their names below `target`, and lists what was copied: those bytes, not those of a later reading.

    Raises:
        IntegrityError: a name must not be in an item, or a source is no regular file.
        ArtifactError: there is no file.
    """
    pairs = sorted(sources)
    if not pairs:
        raise ArtifactError("an item must have a file, but there is none. Run the stage that makes it.")
    check_file_names(name for name, _ in pairs)
    return tuple(_copied(name, path, target / name) for name, path in pairs)


def copy_checked(file: ItemFile, source: Path, target: Path) -> None:
    """Copies one file and compares the copy's bytes with what is promised; a wrong copy does not stay.

    Raises:
        IntegrityError: they differ.
    """
    found = _copied(file.path, source, target)
    if (found.size, found.sha256) != (file.size, file.sha256):
        target.unlink()
        raise _altered(file.path)


def check(folder: Path, files: Iterable[ItemFile]) -> None:
    """Compares a folder with what is promised: every file, and no other.

    Raises:
        IntegrityError: a file is missing, unexpected, altered or no regular file.
    """
    promised, found = {file.path: file for file in files}, dict(regular_files(folder))
    for name in sorted(promised.keys() | found.keys()):
        if name not in found:
            raise IntegrityError(f"{name} is missing; it is in the card.")
        if name not in promised:
            raise IntegrityError(f"{name} is unexpected; it is not in the card.")
        with _opened(found[name]) as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if sha256 != promised[name].sha256:
            raise _altered(name)


def _copied(name: str, source: Path, target: Path) -> ItemFile:
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with _opened(source) as reader, target.open("xb") as writer:
        while block := reader.read(BLOCK):
            sha256.update(block)
            md5.update(block)
            size += len(block)
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())
    return ItemFile(path=name, size=size, sha256=sha256.hexdigest(), md5=md5.hexdigest())


def _opened(path: Path) -> BufferedReader:
    """Opens a regular file; a link is not followed and a pipe is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise IntegrityError(f"{path} must be a regular file that can be read: {error.strerror}.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IntegrityError(f"{path} must be a regular file: links and special files do not travel.")
    return os.fdopen(descriptor, "rb")


def _altered(name: str) -> IntegrityError:
    return IntegrityError(f"{name} is altered: its bytes are not those that its card promises.")
