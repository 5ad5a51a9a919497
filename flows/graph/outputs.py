"""Keeps the former outputs of a stage that fails: DVC deletes them before it runs the command.

`persist: true` in dvc.yaml would keep them too, but DVC's run cache ignores stages with such outputs. So after a
failure the outputs that dvc.lock records are copied back from DVC's cache. This process copies them itself, because
`dvc checkout` waits for the lock of the `dvc repro` that runs the stage.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.readers import parse_json
from flows.graph.dvc_private import cache_folder, is_valid_lock, object_path, recorded_stages
from flows.project import Project


def restore_outputs(project: Project, stage: str) -> list[str]:
    """Copies the missing outputs of a stage from DVC's cache, as dvc.lock records them.

    Returns:
        The paths of the restored outputs. Outputs that DVC has never recorded, or whose cache is incomplete, are left
        out.
    """
    return [path for path, md5 in missing_outputs(project, stage) if _restore(project, path, md5)]


def missing_outputs(project: Project, stage: str) -> list[tuple[str, str]]:
    """The path and the MD5 digest of each output of a stage that dvc.lock records and that does not exist."""
    content = project.lock_file.read_bytes() if project.lock_file.is_file() else b""
    if not is_valid_lock(content):
        return []
    outs = recorded_stages(content).get(stage, {}).get("outs", [])
    recorded = [(str(out["path"]), str(out["md5"])) for out in outs if "md5" in out]
    return [(path, md5) for path, md5 in recorded if not (project.root / path).exists()]


def is_cached(project: Project, md5: str) -> bool:
    """Whether DVC's cache has every file of an output, given its digest in dvc.lock."""
    files = _files(cache_folder(project.root), md5)
    return files is not None and all(source.is_file() for source, _ in files)


def _restore(project: Project, path: str, md5: str) -> bool:
    files = _files(cache_folder(project.root), md5)
    target = project.root / path
    if files is None or target.exists():
        return False
    temporary = target.with_name(f".{target.name}.restoring")
    try:
        for source, name in files:
            copy = temporary / name if name else temporary
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)  # without the mode: files in the cache are read-only
        temporary.rename(target)
    except OSError:  # a file is missing in the cache, or the disk is full
        return False
    finally:
        _remove(temporary)
    return True


def _files(cache: Path, md5: str) -> list[tuple[Path, str]] | None:
    """The cached files of an output, each with its path inside the output; None if the list is missing or damaged."""
    if not md5.endswith(".dir"):
        return [(object_path(cache, md5), "")]
    try:
        entries = parse_json(object_path(cache, md5).read_bytes(), md5)
        return list(_entries(cache, entries))
    except (OSError, ArtifactError, ValueError, KeyError, TypeError):
        return None


def _entries(cache: Path, entries: list[dict[str, Any]]) -> Iterator[tuple[Path, str]]:
    for entry in entries:
        name = PurePosixPath(entry["relpath"])
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"{name} leaves the folder")
        yield object_path(cache, str(entry["md5"])), str(name)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
