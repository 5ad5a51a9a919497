"""The files of an item: copied with their digests, and compared with what a card promises."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from pydantic import Field

from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import ArtifactError, IntegrityError
from cclm_core.shelf.names import check_file_names


class ItemFile(Config):
    """One file of an item."""

    path: str = Field(description="relative to the item's folder, `/` between its parts")
    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="what its bytes are checked against")
    md5: str = Field(pattern="^[0-9a-f]{32}$", description="its key in DVC's storage; never a check of its bytes")


def regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The relative path and the path of each file below `folder`, sorted by name.

    Raises:
        IntegrityError: a symbolic link or a special file is among them.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from ((f"{entry.name}/{name}", path) for name, path in regular_files(Path(entry.path)))
        elif entry.is_file(follow_symlinks=False):
            yield entry.name, Path(entry.path)
        else:
            raise IntegrityError(f"{entry.path!r} must be a regular file: links and special files are not published.")


def copy(sources: Mapping[str, Path], target: Path) -> tuple[ItemFile, ...]:
    """Copies files (path in the item -> file) to the folder `target`; lists the copies, not a later state of the files.

    Raises:
        IntegrityError: a name is not allowed in an item.
        ArtifactError: there are no files.
    """
    if not sources:
        raise ArtifactError("an item must have at least one file, got an empty folder. Run the stage that makes it.")
    check_file_names(sources)
    files = []
    for name, source in sorted(sources.items()):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        with path.open("rb") as stream:
            md5 = hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        files.append(ItemFile(path=name, size=path.stat().st_size, sha256=file_digest(path), md5=md5))
    return tuple(files)


def check(folder: Path, files: Iterable[ItemFile]) -> None:
    """Checks that a folder has exactly the promised files, byte for byte.

    Raises:
        IntegrityError: a file is missing, unexpected, altered or not a regular file.
    """
    promised, present = {file.path: file for file in files}, dict(regular_files(folder))
    for name in sorted(promised.keys() | present.keys()):
        file, path = promised.get(name), present.get(name)
        if file is None or path is None:
            problem = "missing" if path is None else "unexpected"
        elif (path.stat().st_size, file_digest(path)) == (file.size, file.sha256):
            continue
        else:
            problem = "altered"
        raise IntegrityError(f"{name!r} is {problem}: the files are not those that the card promises.")
