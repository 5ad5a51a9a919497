"""Writes new values into params.yaml: checked first, atomically, with its comments kept."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cclm_core.runtime.config import load_yaml, nearest
from cclm_core.runtime.errors import ConfigError
from flows.stage import STAGE_MODULE

NAME = "params.yaml"
WHOLE_LINE = 10_000  # so that no line of the user's is wrapped


def write_settings(root: Path, component: str, settings: Mapping[str, Any]) -> bool:
    """Sets keys below `components.<component>`, e.g. `training.steps`; returns whether that changed anything.

    Raises:
        ConfigError: there is no such component, a key or a value is wrong; then params.yaml is as it was.
    """
    path = root / NAME
    known = load_yaml(path).get("components") or {}
    if component not in known:
        raise ConfigError(f"{NAME}: components.{component} is not there; {nearest(component, list(known))}")
    content, changed = _changed(path, component, settings)
    if not changed:
        return False
    beside = path.with_name(f".{NAME}.writing")
    try:
        with beside.open("w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        _check(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return True


def parse_settings(given: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` as the command line has it, the value in YAML.

    >>> parse_settings(["training.steps=500", "training.variants=[modern]", "task.rate=0.2"])
    {'training.steps': 500, 'training.variants': ['modern'], 'task.rate': 0.2}

    Raises:
        ConfigError: one has no `=` or no key, or its value is no YAML.
    """
    settings = {}
    for one in given:
        key, separator, value = one.partition("=")
        if not separator or not key:
            raise ConfigError(f"a setting must look like KEY=VALUE, e.g. training.steps=500, got {one!r}.")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {key} must be YAML, got {value!r}: {error}") from None
    return settings


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
        place = values["components"][component]
        for number, part in enumerate(above):
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                shown = ".".join(above[: number + 1])
                raise ConfigError(f"{NAME}: components.{component}.{shown} must be a mapping to hold {key}.")
        if last not in place or place[last] != value or type(place[last]) is bool is not type(value):
            place[last] = value
            changed = True
    written = io.StringIO()
    editor.dump(values, written)
    return written.getvalue(), changed


def _check(path: Path) -> None:
    """Checks the whole new file; messages name params.yaml, not the file beside it."""
    if STAGE_MODULE in os.environ:  # stages of your own check their own parameters
        return
    from cclm_core.steps.check import check

    try:
        check(path)
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(path), NAME)) from None
