"""Published folders: written to a temporary folder, flushed, renamed; verified against a manifest of SHA-256 digests.

A reader sees the old folder or the new one, never a mixture. A published folder contains nothing that differs between
two runs of the same configuration, such as the time, the host, a path or the device.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ArtifactError, IntegrityError
from cclm_core.runtime.files import atomic_write, flush_folder, flush_tree, try_lock
from cclm_core.runtime.readers import read_json as read_json

MANIFEST = "manifest.json"


@contextmanager
def publishing(target: Path, kind: str) -> Iterator[Path]:
    """Yields an empty temporary folder. If the block succeeds, adds a manifest and replaces `target` with it.

    Args:
        target: the folder to publish; an existing one is replaced.
        kind: the kind of artifact, such as `corpus` or `embedder`; `verify` checks it.

    Raises:
        ArtifactError: `target` is a file, or another process is writing it.
    """
    if target.exists() and not target.is_dir():
        raise ArtifactError(f"{target} must be a folder, but it is a file. Move the file or choose another output.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.writing")
    old = target.with_name(f".{target.name}.old")
    busy = ArtifactError(f"{target} is being written by another process. Wait until it finishes.")
    with try_lock(target.with_name(f".{target.name}.lock"), busy):
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            write_json(temporary / MANIFEST, {"kind": kind, "files": _digests(temporary)})
            flush_tree(temporary)
            if target.exists():
                target.rename(old)
            temporary.rename(target)
            flush_folder(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def verify(folder: Path, *kinds: str) -> str:
    """Checks every file of a published folder against its manifest; returns the folder's digest.

    Args:
        folder: the published folder.
        kinds: the accepted kinds of artifact, such as `embedder`; at least one.

    Raises:
        ArtifactError: the folder or its manifest is missing, or it is another kind of artifact.
        IntegrityError: a file is missing, unexpected or altered.
    """
    kind = " or ".join(kinds)
    if not folder.is_dir():
        raise ArtifactError(f"{kind} not found: {folder} does not exist. Run the stage that creates it.")
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise ArtifactError(
            f"{MANIFEST} not found in {folder}, so it was not published by CCLM. Run the stage that creates the {kind}."
        )
    manifest = read_json(manifest_path)
    if manifest.get("kind") not in kinds:
        raise ArtifactError(
            f"{folder} must contain a published {kind}, got {manifest.get('kind')}. Pass the folder of the {kind}."
        )
    expected, actual = manifest["files"], _digests(folder)
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            state = "missing" if name not in actual else "unexpected" if name not in expected else "altered"
            # Delete first: DVC does not notice a changed file whose modification time is unchanged.
            raise IntegrityError(
                f"{folder / name} is {state}. Delete {folder}, then run `dvc checkout` or the stage that creates it."
            )
    return folder_digest(folder)


def folder_digest(folder: Path) -> str:
    """SHA-256 of a published folder's manifest, which lists the digest of every file."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def rounded(value: float) -> float:
    """Rounds to six significant digits, the precision of every published figure.

    >>> rounded(0.123456789)
    0.123457
    """
    return float(f"{value:.6g}")


def write_json(path: Path, value: Any) -> None:
    """Writes canonical JSON and a final newline, atomically."""
    write_text(path, canonical_json(value) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically: a reader sees the old file or the new one."""
    atomic_write(path, text)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
