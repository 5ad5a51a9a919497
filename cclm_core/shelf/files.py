"""The files of an item: copied with their digests, and compared with a card."""

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

    path: str = Field(description="relative to the item's folder, with `/` as separator")
    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="verified after every download")
    md5: str = Field(pattern="^[0-9a-f]{32}$", description="key in DVC's storage, never used to verify the file")


def regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields relative path and path of each file below `folder`; raises IntegrityError at a link or special file."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from ((f"{entry.name}/{name}", path) for name, path in regular_files(Path(entry.path)))
        elif entry.is_file(follow_symlinks=False):
            yield entry.name, Path(entry.path)
        else:
            raise IntegrityError(f"{entry.path!r} must be a regular file. Remove it: an item has no links or pipes.")


def copy(sources: Mapping[str, Path], target: Path) -> tuple[ItemFile, ...]:
    """Copies files (path in the item -> file) to the folder `target` and describes the copies.

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
    """Raises IntegrityError unless a folder contains exactly these files, byte for byte, and no links."""
    expected, present = {file.path: file for file in files}, dict(regular_files(folder))
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            problem = "missing"
        elif name not in expected:
            problem = "unexpected"
        elif (present[name].stat().st_size, file_digest(present[name])) != (expected[name].size, expected[name].sha256):
            problem = "altered"
        else:
            continue
        raise IntegrityError(f"{name!r} is {problem}: the files differ from the card.")
