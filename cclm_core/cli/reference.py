"""The reference of params.yaml: every key with its type, default, allowed values and meaning, read from the classes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import to_jsonable_python

from cclm_core.cli.keys import complete, meanings
from cclm_core.steps.params import NAMED, SECTIONS, class_of

Schema = dict[str, Any]

HEAD = """\
# Every key of params.yaml

<!-- Written by `make docs` from the configuration classes. Do not edit. -->

`cclm config show` prints the values of your project, defaults included; `cclm config init FILE` writes a file with
every key; `cclm config reference` prints this page. Unknown keys are errors.

At the top are `seed`, an integer that all random numbers are derived from, and `code`, a list of Python files with
[your own blocks](blocks.md). The sections follow; below them are the groups of keys that the sections use. A default of
"-" means that the key is required.
"""

_REFERENCE = "#/$defs/"
_NAMES = {"boolean": "true or false", "integer": "integer", "null": "null", "number": "number", "string": "text"}
_FAMILIES = ("objective", "head")
"""Keys whose fixed value names a member of a family."""


def schema() -> Schema:
    """The JSON schema of params.yaml; descriptions are the meanings of the keys.

    It has the complete form of each value: short forms, such as a name in place of a mapping, are not in it.
    """
    classes = {key: class_of(key) for key in SECTIONS}
    unique = list(dict.fromkeys(classes.values()))
    references, combined = models_json_schema(
        [(config, "validation") for config in unique], schema_generator=_WithMeanings
    )
    properties: Schema = {
        "seed": {"type": "integer", "description": "the seed of all random numbers"},
        "code": {"type": "array", "items": {"type": "string"}, "description": "Python files with your own blocks"},
    }
    for key, config in classes.items():
        section = references[config, "validation"]
        properties[key] = {"type": "object", "additionalProperties": section} if key in NAMED else section
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "params.yaml",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **combined,
    }


def page() -> str:
    """The reference as a Markdown page."""
    complete_schema = schema()
    groups: dict[str, Schema] = complete_schema["$defs"]
    titles = {name: _title(name, group) for name, group in groups.items()}
    sections = {key: _referenced(complete_schema["properties"][key])[0] for key in SECTIONS}
    lines = [HEAD, "## Sections", ""]
    lines += [f"* [{key}](#{_anchor(_section_title(key))})" for key in SECTIONS]
    for key, name in sections.items():
        lines += ["", f"## {_section_title(key)}", "", *_table(groups[name], groups, titles)]
    others = sorted(groups.keys() - set(sections.values()), key=lambda name: titles[name])
    for name in others:
        users = [titles[other] for other, group in groups.items() if name in _referenced(group)]
        users = [title for title in users if title not in {titles[section] for section in sections.values()}]
        users += [_section_title(key) for key, section in sections.items() if name in _referenced(groups[section])]
        links = ", ".join(f"[{title}](#{_anchor(title)})" for title in sorted(set(users)))
        lines += ["", f"## {titles[name]}", "", *([f"Used by {links}.", ""] if links else [])]
        lines += _table(groups[name], groups, titles)
    return "\n".join(lines) + "\n"


class _WithMeanings(GenerateJsonSchema):
    """Adds the meanings in docstrings, which pydantic does not read."""

    def model_schema(self, schema: Any) -> Schema:
        """The schema of a configuration class."""
        result = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        known = meanings(model)
        for name, value in result.get("properties", {}).items():
            value.pop("title", None)
            if "default" not in value and not model.model_fields[name].is_required():
                default = model.model_fields[name].get_default(call_default_factory=True)
                value["default"] = to_jsonable_python(complete(default))
            if name in known:
                value["description"] = known[name]
        result["description"] = (model.__doc__ or "").partition("\n\n")[0].replace("\n   ", "")
        return result


def _section_title(key: str) -> str:
    return f"{key}.NAME" if key in NAMED else key


def _title(name: str, group: Schema) -> str:
    """The heading of a group of keys: `objective: masked_characters`, or the name of the class in words."""
    properties = group.get("properties", {})
    for key in _FAMILIES:
        if "const" in properties.get(key, {}):
            return f"{key}: {properties[key]['const']}"
    # pydantic gives classes of the same name their modules: cclm_core__composition__fusion__AttentionConfig.
    *modules, plain = name.split("__")
    words = re.sub("(?<!^)([A-Z])", r" \1", plain.removesuffix("Config")).lower()
    return f"{words} ({modules[1]})" if modules else words


def _anchor(title: str) -> str:
    """The anchor of a heading, as repository hosts derive it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _table(group: Schema, groups: Mapping[str, Schema], titles: Mapping[str, str]) -> Iterator[str]:
    if group.get("description"):
        yield group["description"]
        yield ""
    properties = group.get("properties", {})
    fixed = [f"`{key}: {value['const']}`" for key, value in properties.items() if "const" in value]
    if fixed:
        yield f"Selected by {', '.join(fixed)}."
        yield ""
    if len(fixed) == len(properties):
        yield "It has no keys."
        return
    yield "| key | type | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    for key, value in properties.items():
        if "const" in value:
            continue
        default = _default(value["default"], value, groups) if "default" in value else "-"
        cells = (f"`{key}`", _type(value, titles), default, _range(value), _escaped(value.get("description", "")))
        yield f"| {' | '.join(cells)} |"


def _default(default: Any, value: Schema, groups: Mapping[str, Schema]) -> str:
    """A default; of a group of keys only what differs from the defaults of its keys."""
    direct = {key: part for key, part in value.items() if key not in ("items", "additionalProperties")}
    members = [groups[name].get("properties", {}) for name in _referenced(direct)]
    if isinstance(default, dict) and members:
        keys: Mapping[str, Any] = next((keys for keys in members if keys.keys() >= default.keys()), {})
        is_told = {key for key, part in keys.items() if "const" in part and len(members) > 1}
        default = {
            key: part for key, part in default.items() if key in is_told or part != keys[key].get("default", part)
        }
        return _code(default) if default else "its defaults"
    return _code(default)


def _type(value: Schema, titles: Mapping[str, str]) -> str:
    if "$ref" in value:
        title = titles[value["$ref"].removeprefix(_REFERENCE)]
        return f"[{title}](#{_anchor(title)})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in value:
            return " or ".join(dict.fromkeys(_type(part, titles) for part in value[key]))
    if "const" in value:
        return _code(value["const"])
    if "enum" in value:
        return " or ".join(_code(item) for item in value["enum"])
    if value.get("type") == "array":
        parts = value.get("prefixItems")
        if parts:
            return f"list of {', '.join(_type(part, titles) for part in parts)}"
        return f"list of {_type(value['items'], titles)}" if value.get("items") else "list"
    if value.get("type") == "object":
        items = value.get("additionalProperties")
        return f"mapping of names to {_type(items, titles)}" if isinstance(items, dict) and items else "mapping"
    return _NAMES.get(str(value.get("type")), "any value")


def _range(value: Schema) -> str:
    parts = [value, *(part for key in ("anyOf", "oneOf") for part in value.get(key, ()))]
    return "; ".join(dict.fromkeys(filter(None, map(_bounds, parts))))


def _bounds(value: Schema) -> str:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
        "minItems": "at least {} items",
        "maxItems": "at most {} items",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
    }
    if "minimum" in value and "maximum" in value:
        return f"{value['minimum']:,} to {value['maximum']:,}"
    bounds = [text.format(f"{value[key]:,}") for key, text in words.items() if key in value]
    bounds += [f"matches {_code(value['pattern'])}"] if "pattern" in value else []
    items = value.get("items")
    inner = _bounds(items) if isinstance(items, dict) else ""
    return ", ".join([*bounds, *([f"each {inner}"] if inner else [])])


def _referenced(value: Any) -> list[str]:
    """The names of all groups that a schema refers to."""
    if isinstance(value, Mapping):
        own = [value["$ref"].removeprefix(_REFERENCE)] if isinstance(value.get("$ref"), str) else []
        return own + [name for key, part in value.items() if key != "discriminator" for name in _referenced(part)]
    return [name for part in value for name in _referenced(part)] if isinstance(value, list) else []


def _code(value: Any) -> str:
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10_000)
    text = text.removesuffix("\n").removesuffix("\n...")
    return f"`{text or chr(39) * 2}`".replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
