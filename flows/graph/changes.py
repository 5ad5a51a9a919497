"""What changed in the parameters since the last run of each stage, and the names of runs that show it."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from cclm_core.runtime.config import canonical_json
from flows.graph.dvc_private import is_valid_lock, recorded_stages
from flows.graph.node import Node, flatten
from flows.project import Project

MAX_SHOWN = 3  # parameters in a name
MAX_VALUE = 30  # characters of a value in a name
SEPARATOR = " · "


def recorded_in_lock(project: Project) -> dict[str, Any]:
    """The stages in dvc.lock, as they were when they ran last; empty if it is missing or damaged."""
    content = project.lock_file.read_bytes() if project.lock_file.is_file() else b""
    return recorded_stages(content) if is_valid_lock(content) else {}


def changed_parameters(project: Project, nodes: Iterable[Node]) -> dict[str, tuple[Any, Any]]:
    """The parameters that differ from those with which dvc.lock records the last run of a stage.

    Args:
        project: the project.
        nodes: the stages. Those that have never run are left out.

    Returns:
        Dotted key -> former and new value; None for a key that was added or removed.
    """
    recorded = recorded_in_lock(project)
    changed: dict[str, tuple[Any, Any]] = {}
    for node in nodes:
        if node.name not in recorded:
            continue
        former: dict[str, Any] = {}
        for values in (recorded[node.name].get("params") or {}).values():
            for key, value in values.items():
                former |= flatten(value, key)
        for key in (*node.params, *(key for key in former if key not in node.params)):
            if former.get(key) != node.params.get(key):
                changed[key] = former.get(key), node.params.get(key)
    return changed


def run_name(started: float, what: str, changed: Mapping[str, tuple[Any, Any]], prefix: str = "") -> str:
    """The name of a run: when, what, and which parameters changed.

    >>> run_name(0, "retrain words", {"components.words.training.steps": (30, 35)}, "components.words.")[16:]
    ' · retrain words · training.steps=35'

    Args:
        started: Unix seconds; shown in the local time.
        what: what the run does, such as `retrain words`.
        changed: see `changed_parameters`.
        prefix: start of keys to leave out.
    """
    shown = [f"{key.removeprefix(prefix)}={_short(new)}" for key, (_, new) in list(changed.items())[:MAX_SHOWN]]
    more = [f"{len(changed) - MAX_SHOWN} more"] if len(changed) > MAX_SHOWN else []
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(started))
    return SEPARATOR.join([when, what, *([", ".join([*shown, *more])] if shown else [])])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."
