"""Published folders: written beside, flushed, renamed; a manifest of SHA-256 digests verified on reading.

A reader sees the old folder or the new one, never a mixture. Nothing that differs between two runs of the
same configuration (time, host, path, device) is written into one.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ArtifactError, IntegrityError
from cclm_core.runtime.files import atomic_write, flush_folder, flush_tree, try_lock

MANIFEST = "manifest.json"


@contextmanager
def publishing(target: Path, kind: str) -> Iterator[Path]:
    """Yields an empty folder beside `target` that takes its place, with a manifest, when the block succeeds.

    Args:
        target: the folder to publish; an older one is replaced.
        kind: what the folder holds, e.g. `corpus`, `embedder`: checked by `verify`.

    Raises:
        ArtifactError: `target` is a file, or another process is writing it.
    """
    if target.exists() and not target.is_dir():
        raise ArtifactError(f"{target} must be a folder, but it is a file; move it away or name another output.")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.writing")
    old = target.with_name(f".{target.name}.old")
    busy = ArtifactError(f"{target} is being written by another process; wait until it finishes.")
    with try_lock(target.with_name(f".{target.name}.lock"), busy):
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        beside.mkdir()
        try:
            yield beside
            write_json(beside / MANIFEST, {"kind": kind, "files": _digests(beside)})
            flush_tree(beside)
            if target.exists():
                target.rename(old)
            beside.rename(target)
            flush_folder(target.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def verify(folder: Path, *kinds: str) -> str:
    """Checks every file of a published folder against its manifest; returns the folder's digest.

    Args:
        folder: what a stage published.
        kinds: what it may hold, e.g. `embedder`; at least one.

    Raises:
        ArtifactError: no such folder, no manifest, or another kind of artifact.
        IntegrityError: a file is missing, unexpected or altered.
    """
    kind = " or ".join(kinds)
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder} must hold a published {kind}; there is no such folder. Run the stage that makes it."
        )
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise ArtifactError(f"{folder} must hold {MANIFEST}; there is none: it was not published by CCLM.")
    manifest = read_json(manifest_path)
    if manifest.get("kind") not in kinds:
        raise ArtifactError(f"{folder} must hold a {kind}, but it holds a {manifest.get('kind')}.")
    promised, found = manifest["files"], _digests(folder)
    for name in sorted(promised.keys() | found.keys()):
        if promised.get(name) != found.get(name):
            what = "missing" if name not in found else "unexpected" if name not in promised else "altered"
            # DVC overlooks a change that left the file's time as it was, until the folder is away.
            remedy = f"remove {folder} and restore it with `dvc checkout`, or make it anew"
            raise IntegrityError(f"{folder / name} is {what}; {remedy}.")
    return folder_digest(folder)


def folder_digest(folder: Path) -> str:
    """SHA-256 of a published folder's manifest, which holds the digest of every file in it."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def rounded(value: float) -> float:
    """`value` with six significant digits, the precision of every published figure.

    >>> rounded(0.123456789)
    0.123457
    """
    return float(f"{value:.6g}")


def write_json(path: Path, value: Any) -> None:
    """Writes canonical JSON and a line end, atomically."""
    write_text(path, canonical_json(value) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically: a reader sees the old file or the new one."""
    atomic_write(path, text)


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ArtifactError: the file is missing or holds no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} must exist; there is no such file. Run the stage that makes it.") from None
    except ValueError as error:
        raise ArtifactError(f"{path} must be JSON: {error}. Make it anew.") from None


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
