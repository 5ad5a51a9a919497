"""Configuration: frozen pydantic models, unknown keys refused by name, canonical JSON and digests.

Numbers stand in `params.yaml`; what they mean and which values are allowed stands in the model beside
the thing that they configure.
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
    """Base of every configuration: frozen, keyword-only, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any] | None, where: str) -> Self:
        """Validates `values`, read from `where` (a name for the error message, e.g. `params.yaml: base`).

        Raises:
            ConfigError: an unknown key (with the nearest valid one), a missing or an invalid value.
        """
        try:
            return cls.model_validate(dict(values or {}))
        except ValidationError as error:
            raise ConfigError(_explain(error, cls, where)) from None

    def canonical(self) -> dict[str, Any]:
        """The complete configuration, defaults included, as plain JSON values."""
        return self.model_dump(mode="json")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal bytes.

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
        ConfigError: the file is missing, is no file, is no UTF-8, is no YAML or holds no mapping.
    """
    if not path.is_file():
        raise ConfigError(f"{path} must be a YAML file; there is none. Run from the project's folder or name the file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be YAML in UTF-8: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping at its top, got {type(values).__name__}.")
    return values


def nearest(name: str, known: list[str]) -> str:
    """A hint for an unknown name: the nearest known one, else all of them.

    >>> nearest("setps", ["steps", "seed"])
    "did you mean 'steps'?"
    """
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else "known: " + ", ".join(sorted(known))


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    lines = []
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        above, keys = _walk(model, path[:-1])
        place = f"{where}: {'.'.join([*above, *path[-1:]])}"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{place} is not a known key; {nearest(path[-1], keys)}")
        elif problem["type"] == "missing":
            lines.append(f"{place} is missing; it must be given.")
        elif problem["type"] == "union_tag_invalid":
            key, tags = (str(problem["ctx"][name]).replace("'", "") for name in ("discriminator", "expected_tags"))
            tag = problem["ctx"]["tag"]
            key = key.removesuffix("()").removeprefix("_")  # a function that reads the key `kind` is named `_kind`
            lines.append(f"{place}.{key} must be one of {tags}, got {tag!r}; {nearest(str(tag), tags.split(', '))}")
        else:
            lines.append(f"{place}: {problem['msg']}, got {problem['input']!r}")
    return "\n".join(lines)


def _walk(model: type[BaseModel], path: list[str]) -> tuple[list[str], list[str]]:
    """Follows `path` below `model`, as far as the annotations tell: the keys on the way, and those valid at its end.

    Behind a key whose value is one of several models pydantic names the one that was chosen; that is no key.
    """
    shown, current = [], [model]
    for part in path:
        tagged = [one for one in current if _has_tag(one, part)]
        if not tagged:
            shown.append(part)
        fields = [one.model_fields[part] for one in current if part in one.model_fields]
        current = tagged or [one for field in fields for one in _models(field.annotation)] or current
    return shown, [name for one in current for name in one.model_fields]


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    annotations = [field.annotation for field in model.model_fields.values()]
    return any(get_origin(one) is Literal and get_args(one) == (tag,) for one in annotations)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for part in get_args(annotation) for one in _models(part)]
