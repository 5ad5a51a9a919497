"""Adds and removes entries in the text of a YAML file. Every other byte stays, comments and layout included.

A YAML library that parses and writes would move or lose comments next to a removed entry. So the place of the change
comes from the parser's marks, and the change is made in the text.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.readers import parse_yaml
from cclm_core.survey.settings import flow

INDENT = 2


def with_entry(text: str, source: str, section: str, name: str, value: Mapping[str, Any], spread: bool) -> str:
    """Adds an entry at the end of a section.

    >>> print(with_entry("a: {}  # none\\nb: 1", "p.yaml", "a", "x", {"steps": 3}, spread=False))
    a:  # none
      x: {steps: 3}
    b: 1

    Args:
        text: content of the file.
        source: name of the file, in messages.
        section: a key at the top of the file. It is added if it is missing.
        name: key of the new entry.
        value: the new entry.
        spread: write one line per key of the entry, instead of one line for all.

    Raises:
        ConfigError: the file is no valid YAML, or its layout does not allow the change.
    """
    expected = parse_yaml(text, source)
    expected[section] = {**(expected.get(section) or {}), name: dict(value)}
    found = _pair(text, section)
    if found is None:
        changed = f"{text.rstrip()}\n\n{section}:\n{_lines(name, value, INDENT, spread)}"
        return _checked(changed, expected, source, section)
    key, node = found
    if isinstance(node, yaml.MappingNode) and node.value and node.flow_style:
        end = _end(node.value[-1][1])
        changed = f"{text[:end]}, {flow({name: dict(value)})[1:-1]}{text[end:]}"
    elif isinstance(node, yaml.MappingNode) and node.value:
        indent = node.value[0][0].start_mark.column
        changed = _insert_line(text, _end(node), _lines(name, value, indent, spread))
    else:  # {} or nothing
        start = text.index(":", key.end_mark.index) + 1
        emptied = text[:start] + text[max(start, node.end_mark.index) :]
        changed = _insert_line(emptied, start, _lines(name, value, INDENT, spread))
    return _checked(changed, expected, source, section)


def without_entry(text: str, source: str, section: str, name: str) -> str:
    """Removes an entry of a section. Comments above it stay; those inside it go.

    >>> print(without_entry("a:\\n  x: 1\\n  # kept\\n  y: 2  # gone\\nb: 1", "p.yaml", "a", "y"))
    a:
      x: 1
      # kept
    b: 1

    Args:
        text: content of the file.
        source: name of the file, in messages.
        section: a key at the top of the file.
        name: key of the entry.

    Raises:
        ConfigError: the entry does not exist, or the file's layout does not allow the change.
    """
    expected = parse_yaml(text, source)
    entries = expected.get(section) or {}
    if name not in entries:
        raise ConfigError(f"{source}: {section}.{name} not found; {nearest(name, list(entries))}")
    expected[section] = {key: value for key, value in entries.items() if key != name}
    found = _pair(text, section)
    assert found is not None
    section_key, node = found
    names = [key.value for key, _ in node.value]
    if name not in names:  # it comes from another place by a merge key
        raise _not_editable(source, section)
    position = names.index(name)
    key, value = node.value[position]
    if node.flow_style:
        changed = _without_flow(text, node, position)
    else:
        start = text.rfind("\n", 0, key.start_mark.index) + 1
        end = _comments_inside(text, _line_end(text, max(key.end_mark.index, _end(value))), key.start_mark.column)
        changed = text[:start] + text[end:]
        if len(names) == 1:
            colon = text.index(":", section_key.end_mark.index) + 1
            changed = changed[:colon] + " {}" + changed[colon:]
    return _checked(changed, expected, source, section)


def with_item(text: str, source: str, group: str, name: str) -> str:
    """Adds a name to the list `stages.GROUP.foreach` of dvc.yaml.

    Raises:
        ConfigError: its layout does not allow the change.
    """
    expected = parse_yaml(text, source)
    expected["stages"][group]["foreach"].append(name)
    node = _foreach(text, group)
    end = _end(node.value[-1])
    if node.flow_style:
        changed = f"{text[:end]}, {flow(name)}{text[end:]}"
    else:
        indent = text.rfind("-", 0, node.value[-1].start_mark.index) - text.rfind("\n", 0, end) - 1
        changed = _insert_line(text, end, f"{' ' * indent}- {flow(name)}\n")
    return _checked(changed, expected, source, f"stages.{group}.foreach")


def without_item(text: str, source: str, group: str, name: str) -> str:
    """Removes a name from the list `stages.GROUP.foreach` of dvc.yaml.

    Raises:
        ConfigError: its layout does not allow the change, or it is the only name.
    """
    expected = parse_yaml(text, source)
    names = expected["stages"][group]["foreach"]
    position = names.index(name)
    del names[position]
    if not names:
        raise ConfigError(f"{source}: {name} is the only name in stages.{group}.foreach. Remove that stage first.")
    node = _foreach(text, group)
    if node.flow_style:
        changed = _without_flow(text, node, position)
    else:
        start = text.rfind("\n", 0, node.value[position].start_mark.index) + 1
        changed = text[:start] + text[_line_end(text, _end(node.value[position])) :]
    return _checked(changed, expected, source, f"stages.{group}.foreach")


def _pair(text: str, key: str) -> tuple[yaml.Node, Any] | None:
    """The nodes of a key at the top of the file and of its value."""
    root: Any = yaml.compose(text, yaml.SafeLoader)
    return next((pair for pair in root.value if pair[0].value == key), None)


def _foreach(text: str, group: str) -> Any:
    node: Any = yaml.compose(text, yaml.SafeLoader)
    for key in ("stages", group, "foreach"):
        node = next(value for name, value in node.value if name.value == key)
    return node


def _end(node: Any) -> int:
    """The index after the last character of a node, without the blank lines and comments that follow."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        content: str = node.end_mark.buffer[: node.end_mark.index]
        return len(content.rstrip())
    if isinstance(node, yaml.SequenceNode):
        return max(map(_end, node.value))
    # The value of an alias has the marks of its anchor, which is above: then the key is further down.
    ends: list[int] = [max(key.end_mark.index, _end(value)) for key, value in node.value]
    return max(ends)


def _without_flow(text: str, node: Any, position: int) -> str:
    """The text without a member of `{...}` or `[...]`."""
    starts = [(pair[0] if isinstance(pair, tuple) else pair).start_mark.index for pair in node.value]
    if position + 1 < len(starts):
        return text[: starts[position]] + text[starts[position + 1] :]
    end = node.end_mark.index - 1
    return text[: starts[position]].rstrip().removesuffix(",").rstrip() + text[end:]


def _insert_line(text: str, index: int, line: str) -> str:
    """Inserts lines after the line that contains an index."""
    end = _line_end(text, index)
    missing = "" if text[:end].endswith("\n") else "\n"
    return text[:end] + missing + line + text[end:]


def _line_end(text: str, index: int) -> int:
    """The index of the next line."""
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1


def _comments_inside(text: str, index: int, column: int) -> int:
    """The index after the comment lines that follow and are indented more than `column`."""
    while True:
        line = text[index : _line_end(text, index)]
        if not line.lstrip().startswith("#") or len(line) - len(line.lstrip()) <= column:
            return index
        index += len(line)


def _lines(name: str, value: Mapping[str, Any], indent: int, spread: bool) -> str:
    """An entry as lines of YAML."""
    space = " " * indent
    if not spread or not value:
        return f"{space}{flow(name)}: {flow(dict(value))}\n"
    keys = "".join(f"{space}{' ' * INDENT}{flow(key)}: {flow(entry)}\n" for key, entry in value.items())
    return f"{space}{flow(name)}:\n{keys}"


def _checked(text: str, expected: Any, source: str, section: str) -> str:
    """Returns the text if it has exactly the expected values.

    Raises:
        ConfigError: it has not, or is no valid YAML, for example because a removed entry defines an anchor.
    """
    try:
        values = parse_yaml(text, source)
    except ConfigError as error:
        raise ConfigError(f"{_not_editable(source, section)} ({error})") from None
    if values != expected:
        raise _not_editable(source, section)
    return text


def _not_editable(source: str, section: str) -> ConfigError:
    return ConfigError(
        f"{source}: {section} is written in a form that cannot be changed without its other entries, such as with "
        "anchors. Edit the file."
    )
