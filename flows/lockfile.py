"""Keeps dvc.lock whole: DVC writes it in place, so that a run which is stopped at that moment leaves it cut off.

After each stage a valid dvc.lock is copied to `.cclm`; a run that finds it damaged puts the newest copy back. What the
copy does not know of yet, DVC restores from its run cache.
"""

import shutil
from pathlib import Path

import yaml

from flows.paths import state
from flows.tracking import warn

NAME = "dvc.lock"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one where PyYAML was built with it


def keep(root: Path) -> None:
    """Copies dvc.lock, if it is whole, beside the project's other state; another process may be writing it."""
    content = (root / NAME).read_bytes() if (root / NAME).is_file() else b""
    if is_whole(content):
        beside = state(root) / f".{NAME}.writing"
        beside.write_bytes(content)
        beside.replace(state(root) / NAME)


def mend(root: Path) -> bool:
    """Puts the newest whole copy in the place of a damaged dvc.lock; says so, and returns whether it did."""
    path, copy = root / NAME, state(root) / NAME
    if not path.is_file() or is_whole(path.read_bytes()):
        return False
    damaged = state(root) / f"{NAME}.damaged"
    path.replace(damaged)
    if copy.is_file():
        shutil.copyfile(copy, path)
    source = "its newest copy was put back" if copy.is_file() else "DVC's run cache restores what it knows"
    warn(f"dvc.lock was cut off by a run that was stopped; {source} (the damaged one is {damaged}).")
    return True


def is_whole(content: bytes) -> bool:
    """Whether DVC takes these bytes for a dvc.lock; much of what is cut off is still a mapping to YAML."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        values = yaml.load(content, Loader=_LOADER)
        COMPILED_LOCKFILE_SCHEMA(values)
    except (yaml.YAMLError, Invalid):
        return False
    return isinstance(values, dict) and "schema" in values
