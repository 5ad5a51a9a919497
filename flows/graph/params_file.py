"""Changes values in params.yaml: validated first, written atomically, comments preserved."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cclm_core.runtime.config import canonical_json, load_yaml, nearest
from cclm_core.runtime.errors import CclmError, ConfigError
from cclm_core.runtime.files import atomic_write
from cclm_core.runtime.readers import parse_yaml
from cclm_core.steps.params import NAMED, SCALARS, SECTIONS
from flows.project import Project

NAME = "params.yaml"
MAX_LINE_WIDTH = 10_000  # ruamel.yaml wraps longer lines, so this keeps every line as it is
_LIBRARY = re.compile(r"\bflows\.stage\s+(?!--module\b)")


def uses_library(project: Project) -> bool:
    """Whether any stage of dvc.yaml runs a command of `cclm_core`, so that its rules for params.yaml apply.

    Stages with `python -m flows.stage --module MODULE ...` run a project's own module, which checks its own parameters.
    """
    path = project.root / "dvc.yaml"
    return path.is_file() and any(_LIBRARY.search(command) for command in _commands(load_yaml(path)))


def write_settings(project: Project, name: str, settings: Mapping[str, Any], section: str = "components") -> bool:
    """Sets keys below `SECTION.NAME` in params.yaml, e.g. `training.steps`.

    Args:
        name: a component or a task.
        settings: key -> value.
        section: `components` or `tasks`.

    Returns:
        Whether any value changed.

    Raises:
        ConfigError: the name is unknown, or a key or value is invalid. params.yaml is unchanged.
    """
    entries = load_yaml(project.params_file).get(section) or {}
    if name not in entries:
        raise ConfigError(f"{NAME}: {section}.{name} not found; {nearest(name, list(entries))}")
    return change_settings(project, {f"{section}.{name}.{key}": value for key, value in settings.items()})


def change_settings(project: Project, settings: Mapping[str, Any]) -> bool:
    """Sets keys of params.yaml, e.g. `components.entities.encoder.width` or `base.objectives.0.gradient_factor`.

    Returns:
        Whether any value changed.

    Raises:
        ConfigError: a key or value is invalid. params.yaml is unchanged.
    """
    path = project.params_file
    for key in settings:
        section, *rest = key.split(".")
        known = load_yaml(path)
        if section not in (*SCALARS, *SECTIONS) and uses_library(project):
            raise ConfigError(f"{NAME}: {section} is not a known section; {nearest(section, [*SCALARS, *SECTIONS])}")
        if section in NAMED and rest and rest[0] not in (entries := known.get(section) or {}):
            raise ConfigError(f"{NAME}: {section}.{rest[0]} not found; {nearest(rest[0], list(entries))}")
    content, changed = _changed(path, settings)
    if not changed:
        return False
    if uses_library(project):
        check_content(path, content)
    atomic_write(path, content)
    return True


@contextmanager
def undone_if_refused(project: Project) -> Iterator[None]:
    """Restores params.yaml if the block changes it and then raises a `CclmError`.

    A value can be valid, but refused by what is checked afterwards, such as a file that does not exist.
    """
    path = project.params_file
    former = path.read_bytes() if path.is_file() else None
    try:
        yield
    except CclmError:
        if former is not None and path.read_bytes() != former:
            atomic_write(path, former)
        raise


def parse_settings(arguments: list[str]) -> dict[str, Any]:
    """Parses `KEY=VALUE` arguments of the command line. Values are YAML.

    >>> parse_settings(["training.steps=500", "training.variants=[modern]", "task.rate=0.2"])
    {'training.steps': 500, 'training.variants': ['modern'], 'task.rate': 0.2}

    Raises:
        ConfigError: an argument is not of the form `KEY=VALUE`, or its value is not valid YAML.
    """
    settings = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or not key:
            raise ConfigError(f"a setting must be KEY=VALUE, such as training.steps=500, got {argument!r}.")
        settings[key] = parse_yaml(value, f"the value of {key}")
    return settings


def _commands(values: Any) -> list[str]:
    """Every `cmd` in dvc.yaml, including those of `foreach` and `matrix` stages."""
    if isinstance(values, list):
        return [command for value in values for command in _commands(value)]
    if not isinstance(values, Mapping):
        return []
    own = values.get("cmd", [])
    commands = [str(command) for command in (own if isinstance(own, list) else [own])]
    return commands + [command for key, value in values.items() if key != "cmd" for command in _commands(value)]


def _changed(path: Path, settings: Mapping[str, Any]) -> tuple[str, bool]:
    """The file's content with the new settings, and whether any value differs."""
    from ruamel.yaml import YAML

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = MAX_LINE_WIDTH
    editor.indent(mapping=2, sequence=4, offset=2)
    with path.open(encoding="utf-8") as stream:
        values = editor.load(stream)
    changed = False
    for key, value in settings.items():
        section, last = _container(values, key)
        is_new = last not in section if isinstance(section, dict) else False
        if is_new or section[last] != value or type(section[last]) is bool is not type(value):
            _assign(editor, values, section, last, value)
            changed = True
    written = io.StringIO()
    editor.dump(values, written)
    return written.getvalue(), changed


def _container(values: Any, key: str) -> tuple[Any, Any]:
    """The mapping or list that holds a dotted key, and the key or index in it. Missing mappings are created."""
    *sections, last = key.split(".")
    section = values
    for depth, part in enumerate(sections, start=1):
        parent = ".".join(sections[:depth])
        if isinstance(section, list):
            section = section[_index(section, part, parent)]
        else:
            if section.get(part) is None:
                section[part] = {}
            section = section[part]
        if not isinstance(section, dict | list):
            raise ConfigError(f"{NAME}: {parent} is not a mapping, so {key} cannot be set.")
        if len(_places(values, section)) > 1:
            shared: Any = section
            raise ConfigError(
                f"{NAME}: {parent} is shared through the anchor &{shared.anchor.value}, so setting {key} would change "
                "the other places, too. Edit the file."
            )
    return section, _index(section, last, key) if isinstance(section, list) else last


def _index(entries: list[Any], part: str, key: str) -> int:
    if not part.isdecimal() or int(part) >= len(entries):
        raise ConfigError(f"{NAME}: {key} must be an index from 0 to {len(entries) - 1}, got {part!r}.")
    return int(part)


def _assign(editor: Any, values: Any, section: Any, key: Any, value: Any) -> None:
    """Sets a value. Where the value defines an anchor, everything that refers to it changes, too."""
    old = section[key] if isinstance(section, list) or key in section else None
    anchor = getattr(getattr(old, "anchor", None), "value", None)
    places = _places(values, old) if anchor else []
    if len(places) > 1 and places[0][0] is section and places[0][1] == key and not isinstance(value, dict | list):
        new = editor.load(f"value: &{anchor} {canonical_json(value)}")["value"]
        for container, name in places:
            container[name] = new
        return
    section[key] = value


def _places(values: Any, wanted: Any) -> list[tuple[Any, Any]]:
    """The containers and keys that hold this very object, in the order of the file."""
    entries = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    places: list[tuple[Any, Any]] = []
    for key, value in entries:
        if value is wanted and getattr(getattr(value, "anchor", None), "value", None):
            places.append((values, key))
        elif isinstance(value, dict | list):
            places += _places(value, wanted)
    return places


def check_content(path: Path, content: str) -> None:
    """Validates new content of params.yaml as a whole. Errors name params.yaml, not the draft file.

    Raises:
        ConfigError: it is invalid.
    """
    from cclm_core.steps.params import Params

    draft = path.with_name(f".{NAME}.draft")
    try:
        atomic_write(draft, content)
        Params.load(draft).check()
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(draft), NAME)) from None
    finally:
        draft.unlink(missing_ok=True)
