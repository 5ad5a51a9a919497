"""`cclm add` and `cclm remove`: entries of params.yaml, such as components and tasks, and what names them in dvc.yaml.

Both files are checked as a whole before either is written. Outputs of a removed entry are moved to `.cclm/replaced`:
the report and DVC read whole folders and would still count them.
"""

import copy
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cclm_core.cli.init import replaced_folder
from cclm_core.runtime.config import load_yaml, nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import atomic_write, try_lock
from cclm_core.survey.settings import flow
from flows.graph.dvc_yaml import readings
from flows.graph.entry_text import with_entry, with_item, without_entry, without_item
from flows.graph.params_file import NAME, check_content, uses_library
from flows.graph.plan import read_plan
from flows.project import Project
from flows.run.checks import check_files

DVC = "dvc.yaml"
KINDS = {
    "component": "components",
    "composition": "compositions",
    "task": "tasks",
    "ensemble": "ensembles",
    "labeled": "labeled",
}
"""What can be added and removed -> its section of params.yaml."""

_SPREAD = ("components", "labeled")  # sections whose entries have one line per key
_USERS = {
    "components": ("compositions", "parts"),
    "compositions": ("tasks", "composition"),
    "tasks": ("ensembles", "parts"),
    "labeled": ("tasks", "data"),
}
"""Section -> the section whose entries name its entries, and the key; nothing names an ensemble."""
_NOT_IN_NAMES = re.compile(r"[^\w-]+")


@dataclass(frozen=True)
class Edit:
    """What `cclm add` or `cclm remove` has changed.

    Attributes:
        kind: a key of `KINDS`.
        name: its name.
        changes: one line per change, for people.
        moved: former path of each moved output -> its new path.
        next: the command that makes sense next.
    """

    kind: str
    name: str
    changes: list[str]
    moved: dict[str, str]
    next: str

    def as_json(self) -> dict[str, Any]:
        """The edit as JSON-compatible values."""
        return asdict(self)

    def __str__(self) -> str:
        moved = [f"moved {old} to {new}" for old, new in self.moved.items()]
        return "\n".join([*self.changes, *moved, f"Next: {self.next}"])


def add(project: Project, kind: str, name: str, entry: Mapping[str, Any], like: str | None = None) -> Edit:
    """Adds an entry to params.yaml: a component, a composition, a task, an ensemble or a labeled set.

    Args:
        project: the project. Its files are unchanged if there is an error.
        kind: a key of `KINDS`.
        name: the new name.
        entry: the keys of its entry in params.yaml. Keys with dots are nested: `training.steps`.
        like: an entry of the same section, whose other keys are copied.

    Raises:
        ConfigError: the name exists or is invalid, a key, a value or a reference is, or a run is in progress.
    """
    section = KINDS[kind]
    with _editing(project, f"`cclm add {kind}`"):
        params, graph = _read(project)
        entries = load_yaml(project.params_file).get(section) or {}
        _refuse_name(section, name, entries)
        if like is not None and like not in entries:
            raise ConfigError(f"{NAME}: {section}.{like} not found; {nearest(like, list(entries))}")
        value = _nested(entry, copy.deepcopy(entries[like]) if like is not None else {}, f"{section}.{name}")
        new_params = with_entry(params, NAME, section, name, value, spread=section in _SPREAD)
        new_graph, groups = graph, _groups_with_names(project, section)
        for group in groups:
            new_graph = with_item(new_graph, DVC, group, name)
        warnings = _write(project, new_params, new_graph)
    changes = [f"{NAME}: added {section}.{name}: {flow(value)}"]
    changes += [f"{DVC}: added {name} to stages.{group}.foreach" for group in groups]
    changes += [f"note: {warning}" for warning in warnings if f"{section}.{name} " in warning]
    return Edit(kind, name, changes, {}, _next_after_adding(kind, name))


def remove(project: Project, kind: str, name: str) -> Edit:
    """Removes an entry from params.yaml, and moves its outputs to `.cclm/replaced`.

    Args:
        project: the project. Its files are unchanged if there is an error.
        kind: a key of `KINDS`.
        name: its name.

    Raises:
        ConfigError: the name is unknown, something else uses it, or a run is in progress.
    """
    section = KINDS[kind]
    with _editing(project, f"`cclm remove {kind}`"):
        values = load_yaml(project.params_file)
        entries = values.get(section) or {}
        if name not in entries:
            raise ConfigError(f"{NAME}: {section}.{name} not found; {nearest(name, list(entries))}")
        outs = _outputs(project, section, name)
        if users := _users(values, section, name, outs):
            raise ConfigError(f"{NAME}: {section}.{name} is used by {', '.join(users)}. Change or remove that first.")
        params, graph = _read(project)
        new_params, new_graph = without_entry(params, NAME, section, name), graph
        changes = [f"{NAME}: removed {section}.{name}"]
        for group in _groups_with_names(project, section):
            new_graph = without_item(new_graph, DVC, group, name)
            changes.append(f"{DVC}: removed {name} from stages.{group}.foreach")
        for artifact, declared in (load_yaml(project.root / DVC).get("artifacts") or {}).items():
            if isinstance(declared, dict) and declared.get("path") in outs:
                new_graph = without_entry(new_graph, DVC, "artifacts", artifact)
                changes.append(f"{DVC}: removed artifacts.{artifact}")
        _write(project, new_params, new_graph)
        moved = _move(project, outs)
    return Edit(kind, name, changes, moved, "`cclm run` brings up to date what depended on it; `git diff` shows all.")


def _editing(project: Project, command: str) -> Any:
    """Holds the lock of a run, which would read the files while they change."""
    project.require_writable(command)
    busy = ConfigError(f"a run of the pipeline is in progress in {project.root}. Try again when it has ended.")
    return try_lock(project.run_lock, busy, reentrant=True)


def _read(project: Project) -> tuple[str, str]:
    """The contents of params.yaml and dvc.yaml, which must be valid before they are changed."""
    if not uses_library(project):
        raise ConfigError(
            f"{DVC}: the stages run modules of their own, so only they know the keys of {NAME}. Edit the file."
        )
    check_files(project)
    return project.params_file.read_text(encoding="utf-8"), (project.root / DVC).read_text(encoding="utf-8")


def _refuse_name(section: str, name: str, entries: Mapping[str, Any]) -> None:
    """Refuses a name that exists, and one that would not be valid."""
    if name in entries:
        raise ConfigError(
            f"{NAME}: {section}.{name} exists. Choose another name, or change it with `cclm run --set "
            f"{section}.{name}.KEY=VALUE`."
        )
    valid = _NOT_IN_NAMES.sub("_", name).lstrip("-")
    if valid != name:
        hint = f"; for example {valid}" if valid.strip("_") else ""
        raise ConfigError(
            f"{NAME}: {section}: a name must consist of letters, digits, `_` and `-`, and not start with `-`, got "
            f"{name!r:.80}{hint}."
        )


def _nested(entry: Mapping[str, Any], base: dict[str, Any], where: str) -> dict[str, Any]:
    """The base with the keys of the entry, whose dots are levels."""
    for key, value in entry.items():
        *parents, last = key.split(".")
        section = base
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{NAME}: {where}.{parent} is not a mapping, so {key} cannot be set.")
        section[last] = value
    return base


def _groups_with_names(project: Project, section: str) -> list[str]:
    """The stages of dvc.yaml whose `foreach` lists the names of a section, instead of `${section}`."""
    values, graph = load_yaml(project.params_file), load_yaml(project.root / DVC)
    names = set(values.get(section) or {})
    groups = []
    for group, body in (graph.get("stages") or {}).items():
        items = body.get("foreach") if isinstance(body, dict) else None
        if not isinstance(items, list) or not names or set(items) != names:
            continue
        read = {
            key.partition(".")[0] for stage in readings(graph, values) if stage.group == group for key in stage.params
        }
        if section in read or not read & set(KINDS.values()):
            groups.append(group)
    return groups


def _outputs(project: Project, section: str, name: str) -> list[str]:
    """The outputs of all stages of an entry, relative to the project's folder."""
    nodes = read_plan(project, changes=False).nodes.values()
    makers = [node for node in nodes if any(f"{key}.".startswith(f"{section}.{name}.") for key in node.params)]
    outs = {out for node in makers for out in node.outs}
    measured = [node for node in nodes if node.item == name and outs & set(node.deps) and node not in makers]
    return sorted(outs | {out for node in measured for out in node.outs})


def _users(values: Mapping[str, Any], section: str, name: str, outs: list[str]) -> list[str]:
    """The keys of params.yaml that name an entry or its outputs."""
    other, key = _USERS.get(section, ("", ""))
    users = []
    for user, entry in (values.get(other) or {}).items():
        used = entry.get(key) if isinstance(entry, dict) else None
        if name == used or (isinstance(used, list) and name in used):
            users.append(f"{other}.{user}")
    if section == "components":
        metrics = (values.get("promotion") or {}).get("metrics") or {}
        users += [f"promotion.metrics.{metric}" for metric in metrics if metric.startswith(f"contribution/{name}/")]
    users += [key for key, path in _strings(values) if any(path == out or path.startswith(f"{out}/") for out in outs)]
    return users


def _strings(values: Any, key: str = "") -> list[tuple[str, str]]:
    """The dotted key and the value of each string."""
    if isinstance(values, str):
        return [(key, values)]
    members = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [pair for part, value in members for pair in _strings(value, f"{key}.{part}" if key else str(part))]


def _write(project: Project, params: str, graph: str) -> list[str]:
    """Checks both contents together, then writes those that changed; returns the warnings of the checks.

    Raises:
        ConfigError: they are invalid. Nothing is written.
    """
    check_content(project.params_file, params)
    with tempfile.TemporaryDirectory(dir=project.state()) as folder:
        draft = Project(Path(folder))
        draft.params_file.write_text(params, encoding="utf-8")
        (draft.root / DVC).write_text(graph, encoding="utf-8")
        try:
            warnings = check_files(draft)
        except ConfigError as error:
            raise ConfigError(re.sub(rf"\S*{re.escape(draft.root.name)}/", "", str(error))) from None
    path, former = project.params_file, project.params_file.read_text(encoding="utf-8")
    atomic_write(path, params)
    if graph != (project.root / DVC).read_text(encoding="utf-8"):
        try:
            atomic_write(project.root / DVC, graph)
        except BaseException:
            atomic_write(path, former)
            raise
    return warnings


def _move(project: Project, outs: list[str]) -> dict[str, str]:
    """Moves outputs to a folder of `.cclm/replaced`; returns their former and new paths."""
    existing = [out for out in outs if (project.root / out).exists()]
    if not existing:
        return {}
    folder = replaced_folder(project.root)
    moved = {}
    for out in existing:
        target = folder / out
        target.parent.mkdir(parents=True, exist_ok=True)
        (project.root / out).rename(target)
        moved[out] = str(target.relative_to(project.root))
    return moved


def _next_after_adding(kind: str, name: str) -> str:
    if kind == "component":
        return (
            f"`cclm run --target pretrain@{name}` trains it; `cclm add composition NEW --parts {name},...` puts it "
            "into a composition."
        )
    if kind == "composition":
        return f"`cclm run --target evaluate@{name}` composes and measures it."
    if kind == "ensemble":
        return f"`cclm run --target measure@{name}` trains what is missing, fuses and measures it."
    if kind == "labeled":
        return f"`cclm add task NEW --data {name} --composition NAME` adds a task that is fine-tuned on it."
    return f"`cclm run --target test@{name}` trains and tests it."
