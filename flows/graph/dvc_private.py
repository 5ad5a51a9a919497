"""All uses of DVC files and internals outside its documented interface. Checked for DVC `CHECKED`.

| function | relies on |
|---|---|
| `open_repository` | `Repo.tmp_dir`, which has DVC's locks; `Repo._ignore` |
| `can_restore` | `Stage.changed_stage`, `deps_cached`, `save_deps`, `stage_cache.restore(dry=True)` |
| `is_valid_lock` | `dvc.schema.COMPILED_LOCKFILE_SCHEMA` |
| `gone_processes`, `remove_process`, `remove_list` | `.dvc/tmp/rwlock`: JSON with `read` and `write`, and its lock |
| `folder_remote`, `cache_folder` | `.dvc/config` as INI |
| `object_path`, `flows.graph.outputs` | the layout `files/md5/ab/cdef...`, and the JSON lists of folders in it |

`tests/flows/test_private.py` fails if another version of DVC is installed. Run `tests/flows/test_graph.py`,
`test_status.py`, `test_doctor.py` and `test_lockfile.py` with the new version, then widen `CHECKED`.
"""

import configparser
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import yaml

from cclm_core.runtime.errors import ConfigError
from flows.project import Project

CHECKED = ">=3.67,<3.68"
RWLOCK = ".dvc/tmp/rwlock"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader, if PyYAML has it


class DamagedListError(Exception):
    """DVC's list of readers and writers cannot be parsed. DVC refuses to run any stage until it is deleted."""


def open_repository(project: Project) -> Any:
    """Opens the project as a `dvc.repo.Repo`; its locks are in a temporary folder if the project is read-only.

    Raises:
        ConfigError: it is not in a Git repository, or DVC's configuration is invalid.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from scmrepo.exceptions import SCMError

    class ReadOnlyRepo(Repo):  # type: ignore[misc]
        """A repository with locks elsewhere."""

        tmp_dir = str(project.state("read-only", "tmp")) if project.read_only else ""

        def _ignore(self) -> None:
            """DVC would add `tmp_dir` to .gitignore."""

    try:
        return (ReadOnlyRepo if project.read_only else Repo)(str(project.root), _wait_for_lock=True)
    except (DvcException, SCMError) as error:
        if "not a git repository" in str(error):
            raise ConfigError(
                f"{project.root} must be in a Git repository, because DVC needs one. Run `git init` there, or get the "
                "project with `git clone`."
            ) from None
        raise ConfigError(f"DVC cannot open the project: {error}") from None


def can_restore(stage: Any) -> bool:
    """Whether DVC's run cache has the outputs of a stage for its current inputs. Same check as `dvc repro`.

    Args:
        stage: a `dvc.stage.Stage`; its in-memory state changes.
    """
    from dvc.exceptions import DvcException

    try:
        if stage.changed_stage() or not stage.deps_cached():
            stage.save_deps()
            for out in stage.outs:  # these belong to the inputs recorded in dvc.lock, not to the current ones
                out.clear()
        stage.repo.stage_cache.restore(stage, dry=True)
    except DvcException:
        return False
    return True


def is_valid_lock(content: bytes) -> bool:
    """Whether DVC accepts these bytes as a dvc.lock. Parsing YAML is not enough: truncated files often still parse."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        values = yaml.load(content, Loader=_LOADER)
        COMPILED_LOCKFILE_SCHEMA(values)
    except (yaml.YAMLError, Invalid):
        return False
    return isinstance(values, dict) and "schema" in values


def recorded_outputs(content: bytes) -> list[dict[str, Any]]:
    """The outputs in a dvc.lock, each with `path`, `md5` and `size`."""
    return [out for stage in recorded_stages(content).values() for out in stage.get("outs", [])]


def recorded_stages(content: bytes) -> dict[str, Any]:
    """The stages in a dvc.lock, by name; the `outs` of each have `path`, `md5` and `size`."""
    return dict((yaml.load(content, Loader=_LOADER) or {}).get("stages") or {})


def cache_folder(root: Path) -> Path:
    """The folder of the project's DVC cache: `cache.dir` of DVC's configuration, by default `.dvc/cache`."""
    parser = _configuration(root)
    return (root / ".dvc" / parser.get("cache", "dir", fallback="cache")).resolve()


def folder_remote(root: Path) -> Path | None:
    """The folder of the project's default DVC remote; None if the remote is not a local folder.

    Parses DVC's configuration files itself, because importing DVC is slow.
    """
    parser = _configuration(root)
    name = parser.get("core", "remote", fallback="")
    url = parser.get(f"'remote \"{name}\"'", "url", fallback="")
    if not url or "://" in url:
        return None
    return Path(url) if Path(url).is_absolute() else (root / ".dvc" / url).resolve()


def _configuration(root: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read([root / ".dvc" / "config", root / ".dvc" / "config.local"])
    return parser


def object_path(store: Path, md5: str) -> Path:
    """The path of the object `md5` in a DVC cache or a folder remote."""
    return store / "files" / "md5" / md5[:2] / md5[2:]


def gone_processes(root: Path) -> list[int]:
    """IDs of ended processes that are still in DVC's list of readers and writers, `.dvc/tmp/rwlock`.

    The operating system releases DVC's other locks when a process ends. An entry in this list remains, and if the
    process ID is reused, it blocks a stage forever.

    Raises:
        DamagedListError: the list cannot be parsed.
    """
    path = root / RWLOCK
    if not path.is_file():
        return []
    written = path.stat().st_mtime
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return sorted({pid for pid in _pids(entries) if _is_gone(pid, written)})
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DamagedListError(f"{RWLOCK} cannot be parsed: {error}") from error


def remove_process(root: Path, pid: int) -> None:
    """Removes the entries of process `pid` from DVC's list of readers and writers."""
    path = root / RWLOCK
    with _list_lock(root):
        entries = json.loads(path.read_text(encoding="utf-8"))
        write = {name: info for name, info in entries.get("write", {}).items() if int(info["pid"]) != pid}
        read = {
            name: left
            for name, infos in entries.get("read", {}).items()
            if (left := [info for info in infos if int(info["pid"]) != pid])
        }
        path.write_text(json.dumps({"write": write, "read": read}), encoding="utf-8")


def remove_list(root: Path) -> None:
    """Deletes DVC's list of readers and writers. Call it only while no DVC process is running."""
    with _list_lock(root):
        (root / RWLOCK).unlink(missing_ok=True)


def _list_lock(root: Path) -> Any:
    from dvc.lock import make_lock

    folder = root / ".dvc" / "tmp"
    return make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder), wait=True)


def _pids(entries: dict[str, Any]) -> Iterator[int]:
    for info in entries.get("write", {}).values():
        yield int(info["pid"])
    for infos in entries.get("read", {}).values():
        yield from (int(info["pid"]) for info in infos)


def _is_gone(pid: int, written: float) -> bool:
    """Whether the process of an entry has ended: its ID is unused, or belongs to a process newer than the list."""
    try:
        process = psutil.Process(pid)
        return bool(process.status() == psutil.STATUS_ZOMBIE or process.create_time() > written + 1)
    except psutil.NoSuchProcess:
        return True
