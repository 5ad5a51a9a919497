"""Published folders: written to a temporary folder, flushed, renamed; verified against a manifest of SHA-256 digests.

A reader sees the old folder or the new one, never a mixture. A published folder contains nothing that differs between
two runs of the same configuration, such as the time, the host, a path or the device.
"""

import ctypes
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ArtifactError, CclmError, IntegrityError
from cclm_core.runtime.files import StrPath, as_path, atomic_write, flush_folder, flush_tree, try_lock
from cclm_core.runtime.readers import read_bytes
from cclm_core.runtime.readers import read_json as read_json

MANIFEST = "manifest.json"

_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2


@contextmanager
def publishing(target: StrPath, kind: str) -> Iterator[Path]:
    """Yields an empty temporary folder. If the block succeeds, adds a manifest and replaces `target` with it.

    Where the file system can exchange two folders in one step, `target` exists at every moment. Elsewhere a process
    that is killed between two renames leaves the old folder as `.NAME.old`, and the next call puts it back first.

    Args:
        target: the folder to publish; an existing one is replaced.
        kind: the kind of artifact, such as `corpus` or `embedder`; `verify` checks it.

    Raises:
        ArtifactError: `target` is a file, another process is writing it, its folder cannot be written, or the block put
            something other than files and folders into the temporary folder.
    """
    target = as_path(target)
    busy = ArtifactError(f"{target} is being written by another process. Wait until it finishes.")
    temporary, old = target.with_name(f".{target.name}.writing"), target.with_name(f".{target.name}.old")
    with ExitStack() as stack:
        with _writing(target):
            if target.exists() and not target.is_dir():
                raise ArtifactError(f"{target} must be a folder, but it is a file. Move it or choose another output.")
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(try_lock(target.with_name(f".{target.name}.lock"), busy))
            if old.is_dir() and not target.exists():
                old.rename(target)
            for leftover in (temporary, old):
                _remove(leftover)
            temporary.mkdir()
        try:
            yield temporary
            write_json(temporary / MANIFEST, {"kind": kind, "files": _digests(temporary)})
            with _writing(target):
                flush_tree(temporary)
                _replace(target, temporary, old)
                flush_folder(target.parent)
        finally:
            for leftover in (temporary, old) if target.exists() else (temporary,):
                _remove(leftover)


def verify(folder: StrPath, *kinds: str, remedy: str | None = None) -> str:
    """Checks every file of a published folder against its manifest; returns the folder's digest.

    Args:
        folder: the published folder.
        kinds: the accepted kinds of artifact, such as `embedder`; at least one.
        remedy: what to do about damaged files, for the error (default: how to restore an output of the pipeline).

    Raises:
        ArtifactError: the folder or its manifest is missing, or it is another kind of artifact.
        IntegrityError: a file is missing, unexpected, altered, or a link; or the manifest is damaged.
    """
    folder = as_path(folder)
    kind = " or ".join(kinds)
    if not folder.is_dir():
        raise ArtifactError(f"{kind} not found: {folder} does not exist. Run the stage that creates it.")
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        raise ArtifactError(
            f"{MANIFEST} not found in {folder}, so it was not published by CCLM. Run the stage that creates the {kind}."
        )
    # Delete first: DVC does not notice a changed file whose modification time is unchanged.
    restore = f"Delete {folder}, then run `dvc checkout` or the stage that creates it." if remedy is None else remedy
    manifest = read_json(manifest_path, IntegrityError, restore)
    if (given := manifest.get("kind")) not in kinds:
        raise ArtifactError(
            f"{folder} must contain a published {kind}, got {given!s:.80}. Pass the folder of the {kind}."
        )
    expected = manifest.get("files")
    if not isinstance(expected, dict) or len(manifest) != 2:
        raise IntegrityError(f"{manifest_path} is damaged: it must have `kind` and the object `files`. {restore}")
    actual = _digests(folder, IntegrityError, restore)
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            state = "missing" if name not in actual else "unexpected" if name not in expected else "altered"
            raise IntegrityError(f"{folder / name} is {state}. {restore}")
    return folder_digest(folder)


def folder_digest(folder: StrPath) -> str:
    """SHA-256 of a published folder's manifest, which lists the digest of every file.

    Raises:
        ArtifactError: the manifest is missing or cannot be read.
    """
    return hashlib.sha256(read_bytes(as_path(folder) / MANIFEST)).hexdigest()


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
    """Writes canonical JSON and a final newline, atomically.

    Raises:
        ArtifactError: the file cannot be written.
    """
    write_text(path, canonical_json(value) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically: a reader sees the old file or the new one. Raises like `write_json`."""
    with _writing(path):
        atomic_write(path, text)


def _digests(
    folder: Path, error: type[CclmError] = ArtifactError, remedy: str = "Write files and folders only."
) -> dict[str, str]:
    """The digests of all files below `folder` except its manifest, by their path with `/`.

    Raises:
        CclmError: `error`; something other than a file or a folder, such as a link, or a file that cannot be read.
    """
    digests: dict[str, str] = {}
    pending = [folder]
    try:
        while pending:
            for entry in os.scandir(pending.pop()):
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif not entry.is_file(follow_symlinks=False):
                    kind = "a link" if entry.is_symlink() else "neither a file nor a folder"
                    raise error(f"{path} is {kind}. {remedy}")
                elif path != folder / MANIFEST:
                    digests[path.relative_to(folder).as_posix()] = file_digest(path)
    except OSError as problem:
        raise error(f"{problem.filename or folder} cannot be read: {problem.strerror or problem}. {remedy}") from None
    return dict(sorted(digests.items()))


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turns what the operating system refuses into an `ArtifactError`."""
    try:
        yield
    except OSError as problem:
        raise ArtifactError(
            f"{target} cannot be written: {problem.strerror or problem}. Check permissions and free space, or choose "
            "another folder."
        ) from None


def _replace(target: Path, temporary: Path, old: Path) -> None:
    """Moves `temporary` to `target`, which may exist."""
    if not target.exists():
        temporary.rename(target)
    elif not _exchange(temporary, target):
        target.rename(old)
        try:
            temporary.rename(target)
        except OSError:
            old.rename(target)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; False where the system or the file system cannot do that."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or an old C library
        return False
    return int(rename(_CURRENT_FOLDER, os.fsencode(one), _CURRENT_FOLDER, os.fsencode(other), _EXCHANGE)) == 0


def _remove(path: Path) -> None:
    """Deletes a folder, link or file, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
