"""Configuration: frozen pydantic models that refuse unknown keys, canonical JSON, and digests.

Numbers are in `params.yaml`. Their meaning and their range are in the model, next to the code that it configures.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cclm_core.runtime.errors import ConfigError


class Config(BaseModel):
    """Base class of every configuration: frozen and keyword-only; refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any] | None, where: str) -> Self:
        """Validates `values`.

        Args:
            values: the keys and their values; None for an empty mapping.
            where: the source of the values in error messages, such as `params.yaml: base`.

        Raises:
            ConfigError: a key is unknown (the message suggests the nearest one), or a value is missing or invalid.
        """
        try:
            return cls.model_validate(dict(values or {}))
        except ValidationError as error:
            raise ConfigError(_explain(error, cls, where)) from None

    def canonical(self) -> dict[str, Any]:
        """The complete configuration as plain JSON values, defaults included."""
        return self.model_dump(mode="json")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values give equal bytes.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def load_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML in UTF-8, or does not contain a mapping.
    """
    if not path.is_file():
        raise ConfigError(f"YAML file {path} not found. Run the command in the project folder, or pass the path.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML in UTF-8: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must contain a mapping of keys to values, got {type(values).__name__}.")
    return values


def nearest(name: str, known: list[str]) -> str:
    """A hint for an unknown name: the nearest known name, or all known names if none is near.

    >>> nearest("setps", ["steps", "seed"])
    "did you mean 'steps'?"
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(sorted(known))


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    lines = []
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        parents, valid_keys = _walk(model, path[:-1])
        key = f"{where}: {'.'.join([*parents, *path[-1:]])}"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{key} is not a known key; {nearest(path[-1], valid_keys)}")
        elif problem["type"] == "missing":
            lines.append(f"{key} is missing. Add it.")
        elif problem["type"] == "union_tag_invalid":
            field, tags = (str(problem["ctx"][name]).replace("'", "") for name in ("discriminator", "expected_tags"))
            tag = problem["ctx"]["tag"]
            field = field.removesuffix("()").removeprefix("_")  # the discriminator of the key `kind` is named `_kind`
            lines.append(f"{key}.{field} must be one of {tags}, got {tag!r}; {nearest(str(tag), tags.split(', '))}")
        else:
            lines.append(f"{key}: {problem['msg']}, got {problem['input']!r}")
    return "\n".join(lines)


def _walk(model: type[BaseModel], path: list[str]) -> tuple[list[str], list[str]]:
    """Follows `path` from `model` through the annotations; returns the keys on the way and the valid keys at its end.

    Where a value is a union of models, pydantic adds the tag of the selected model to the path. A tag is not a key.
    """
    keys, models = [], [model]
    for part in path:
        tagged = [candidate for candidate in models if _has_tag(candidate, part)]
        if not tagged:
            keys.append(part)
        fields = [candidate.model_fields[part] for candidate in models if part in candidate.model_fields]
        models = tagged or [nested for field in fields for nested in _models(field.annotation)] or models
    return keys, [name for candidate in models for name in candidate.model_fields]


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    types = [field.annotation for field in model.model_fields.values()]
    return any(get_origin(annotation) is Literal and get_args(annotation) == (tag,) for annotation in types)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
