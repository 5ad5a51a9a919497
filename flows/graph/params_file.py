"""Writes new values into params.yaml: checked first, atomically, with its comments kept."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cclm_core.runtime.config import load_yaml, nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import atomic_write
from flows.project import Project

NAME = "params.yaml"
WHOLE_LINE = 10_000  # ruamel.yaml wraps longer lines
_LIBRARY = re.compile(r"\bflows\.stage\s+(?!--module\b)")


def uses_library(project: Project) -> bool:
    """Whether a stage of dvc.yaml runs a command of the library, so that the library must check params.yaml.

    `python -m flows.stage --module MODULE ...` runs a project's own module instead, which checks its own parameters.
    """
    path = project.root / "dvc.yaml"
    return path.is_file() and any(_LIBRARY.search(command) for command in _commands(load_yaml(path)))


def write_settings(project: Project, component: str, settings: Mapping[str, Any]) -> bool:
    """Sets keys below `components.<component>`, e.g. `training.steps`; returns whether that changed anything.

    Raises:
        ConfigError: the component is unknown, or a key or value is invalid; params.yaml is then unchanged.
    """
    path = project.params_file
    known = load_yaml(path).get("components") or {}
    if component not in known:
        raise ConfigError(f"{NAME}: components.{component} not found; {nearest(component, list(known))}")
    content, changed = _changed(path, component, settings)
    if not changed:
        return False
    if uses_library(project):
        _check(path, content)
    atomic_write(path, content)
    return True


def parse_settings(arguments: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` as given on the command line, the value in YAML.

    >>> parse_settings(["training.steps=500", "training.variants=[modern]", "task.rate=0.2"])
    {'training.steps': 500, 'training.variants': ['modern'], 'task.rate': 0.2}

    Raises:
        ConfigError: an argument has no `=` or no key, or its value is not YAML.
    """
    settings = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or not key:
            raise ConfigError(f"a setting must have the form KEY=VALUE, e.g. training.steps=500, got {argument!r}.")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {key} must be YAML, got {value!r}: {error}") from None
    return settings


def _commands(values: Any) -> list[str]:
    """Every `cmd` in dvc.yaml, of plain and of generated stages."""
    if isinstance(values, list):
        return [command for value in values for command in _commands(value)]
    if not isinstance(values, Mapping):
        return []
    own = values.get("cmd", [])
    commands = [str(command) for command in (own if isinstance(own, list) else [own])]
    return commands + [command for key, value in values.items() if key != "cmd" for command in _commands(value)]


def _changed(path: Path, component: str, settings: Mapping[str, Any]) -> tuple[str, bool]:
    """The file's content with the settings, and whether that changes a value."""
    from ruamel.yaml import YAML

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = WHOLE_LINE
    editor.indent(mapping=2, sequence=4, offset=2)
    with path.open(encoding="utf-8") as stream:
        values = editor.load(stream)
    changed = False
    for key, value in settings.items():
        *above, last = key.split(".")
        section = values["components"][component]
        for number, part in enumerate(above):
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                shown = ".".join(above[: number + 1])
                raise ConfigError(f"{NAME}: components.{component}.{shown} must be a mapping to contain {key}.")
        if last not in section or section[last] != value or type(section[last]) is bool is not type(value):
            section[last] = value
            changed = True
    written = io.StringIO()
    editor.dump(values, written)
    return written.getvalue(), changed


def _check(path: Path, content: str) -> None:
    """Checks the whole new content; messages name params.yaml, not the draft."""
    from cclm_core.steps.params import Params

    draft = path.with_name(f".{NAME}.draft")
    try:
        atomic_write(draft, content)
        Params.load(draft).check()
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(draft), NAME)) from None
    finally:
        draft.unlink(missing_ok=True)
