"""`cclm add labeled`: looks at labeled files, copies them into the project, and makes their entry of params.yaml."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from cclm_core.cli.init import InitOptions, replaced_folder
from cclm_core.labeled.dataset import LabeledData
from cclm_core.runtime.errors import CclmError, DataError
from cclm_core.survey.files import DataFile, find_data, place_files
from cclm_core.survey.plan import decide_roles, plan_labeled
from cclm_core.survey.roles import Roles


def add_labeled(
    root: Path, name: str, data: Sequence[str], options: InitOptions, add: Callable[[Mapping[str, Any]], Any]
) -> tuple[Any, list[str]]:
    """Looks at labeled files, copies them into the folder `input` of a project, and adds them.

    Args:
        root: the folder of the project.
        name: the name of the data set.
        data: files, folders and patterns, relative to the working directory.
        options: their columns and splits.
        add: adds an entry of the section `labeled` to params.yaml.

    Returns:
        What `add` returned, and sentences about the files, the data set and what was assumed.

    Raises:
        ConfigError: `add` refused the entry. The files that were copied are deleted again.
        DataError: the data cannot be read, or it is not clear what is what. Nothing was changed.
    """
    held_out = {"test": options.test, "validation": options.validation}
    files, assumptions = find_data(data, held_out, options.encoding, options.has_header)
    roles = decide_roles(files, options.asked)
    if roles.task is None:
        raise DataError(f"{files[0].path} is plain text, which has no labels. Use CSV, JSON lines or CoNLL.")
    copied = place_files(files, root, replaced_folder(root), options.force)
    try:
        with chdir(root):
            entry, labeled = plan_labeled(files, roles, name, options.tag_names)
        added = add(entry)
    except CclmError:
        for path in copied:
            path.unlink(missing_ok=True)
        raise
    lines = [f"{file.target}: {'copied' if root / file.target in copied else 'unchanged'}" for file in files]
    assumed = [f"assumed: {assumption}" for assumption in [*assumptions, *roles.assumptions]]
    return added, [*lines, _described(name, roles, labeled, files), *labeled.warnings, *assumed]


def _described(name: str, roles: Roles, data: LabeledData, files: Sequence[DataFile]) -> str:
    """The data set in one line: task, columns, texts of each split, number of labels."""
    columns = ", ".join(f"{key}: {value}" for key, value in roles.columns.items()) or f"of {files[0].path.name}"
    texts = ", ".join(f"{figures['texts']:,} {split}" for split, figures in data.metrics["splits"].items())
    labels = data.metrics["splits"]["train"].get("labels")
    return f"{name}: {roles.task}, columns {columns}; texts: {texts}" + (f"; {len(labels):,} labels" if labels else "")
