"""Finds the folder of a named input of a stage."""

from pathlib import Path

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ArtifactError


def named_folder(parent: Path, name: str, key: str, stage: str) -> Path:
    """The folder `name` in `parent`.

    Args:
        parent: a folder with one folder per name.
        name: the name.
        key: the key of the parameters that has it, for the message.
        stage: the stage that makes it.

    Raises:
        ArtifactError: it does not exist. The message suggests the nearest name, and the command that makes it.
    """
    if (parent / name).is_dir():
        return parent / name
    names = [path.name for path in parent.glob("[!.]*") if path.is_dir()]
    hint = nearest(name, names) if names else "the folder is empty."
    raise ArtifactError(f"{key}: {name} not found in {parent}; {hint} Run `cclm run --target {stage}@{name}`.")
