"""Configuration: frozen pydantic models that refuse unknown keys, canonical JSON, and digests.

Numbers are in `params.yaml`. Their meaning and their range are in the model, next to the code that it configures.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.files import StrPath
from cclm_core.runtime.readers import read_yaml

own_members: dict[str, type[BaseModel]] = {}
"""Name -> configuration class of your own building blocks, for the paths in messages; `runtime.blocks` fills it."""


class Config(BaseModel):
    """Base class of every configuration: frozen and keyword-only; refuses unknown keys.

    Every problem is a `ConfigError` that names the key, the value, and for an unknown key the nearest known one.

    Raises:
        ConfigError: a key is unknown or missing, or a value is invalid; an attribute is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, validate_default=True, allow_inf_nan=False)

    def __init__(self, /, *positional: Any, **values: Any) -> None:
        name = type(self).__name__
        if positional:
            raise ConfigError(f"{name} takes keys by name, got {positional[0]!r:.80}. Write `{name}(key=value)`.")
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error, type(self), name)) from None

    # Validation of a nested configuration skips `__init__`, so that a message has the path from the outermost one.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except ValidationError:
            kind = type(self).__name__
            raise ConfigError(f"{kind} cannot be changed, got {name} = {value!r:.80}. Create another one.") from None

    @model_validator(mode="before")
    @classmethod
    def _truth_values_are_no_numbers(cls, values: Any) -> Any:
        """Refuses `true` for a number, which pydantic would read as 1."""
        for name, value in values.items() if isinstance(values, Mapping) else ():
            field = cls.model_fields.get(name)
            if field is not None and _holds_bool(value, field.annotation) and not _takes_bool(field.annotation):
                raise ValueError(f"{name} must not be a truth value, got {value!r:.80}")
        return values

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str) -> Self:
        """Validates `values`.

        Args:
            values: the keys and their values.
            where: the source of the values in error messages, such as `params.yaml: base`.

        Raises:
            ConfigError: not a mapping; a key is unknown (the message suggests the nearest one), or a value is missing
                or invalid.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} must be a mapping of keys to values, got {values!r:.80}.")
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(_explain(error, cls, where)) from None

    @classmethod
    def from_argument(cls, given: "Self | Mapping[str, Any] | None", where: str) -> Self:
        """Converts an argument to a configuration: itself, a mapping of its keys, or None for the defaults.

        Args:
            given: the argument.
            where: its name in error messages, such as `config`.

        Raises:
            ConfigError: another type, or see `parse`.

        >>> from cclm_core.text.config import VocabularyConfig
        >>> VocabularyConfig.from_argument({"min_count": 2}, "config").min_count
        2
        """
        if isinstance(given, cls):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise ConfigError(f"{where} must be a {cls.__name__} or a mapping of its keys, got {given!r:.80}.")
        return cls.parse(given or {}, where)

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


def load_yaml(path: StrPath) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML (see `runtime.readers`), or does not contain a mapping.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must contain a mapping of keys to values, got {values!r:.80}.")
    return values


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name, to end a sentence: the nearest known name, or all known names if none is near.

    >>> nearest("setps", ["steps", "seed"])
    "did you mean 'steps'?"
    """
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name[:100], names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names) or 'none'}."


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    return "\n".join(_explain_one(dict(problem), model, where) for problem in error.errors())


def _explain_one(problem: dict[str, Any], model: type[BaseModel], where: str) -> str:
    path = [str(part)[:80] for part in problem["loc"] if part != "[key]"]
    value, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    parents, valid_keys = _walk(model, path[:-1])
    keys = _walk(model, path)[0] if kind == "value_error" else [*parents, *path[-1:]]  # of a section, or of a key
    key = ": ".join(filter(None, (where, ".".join(keys))))
    if kind == "extra_forbidden":
        return f"{key} is not a known key; {nearest(path[-1], valid_keys)}"
    if kind == "missing":
        return f"{key} is missing. Add it."
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        # The discriminator of the key `kind` is named `_kind`.
        field = context["discriminator"].replace("'", "").removesuffix("()").removeprefix("_")
        tags = context.get("expected_tags", "").replace("'", "")
        if kind == "union_tag_invalid":
            tag = context["tag"]
            hint = nearest(str(tag), tags.split(", "))
            hint = f"; {hint}" if hint.startswith("did you mean") else ""  # the known ones are listed already
            return f"{key}.{field} must be one of {tags}, got {tag!r:.80}{hint}"
        if isinstance(value, Mapping):
            return f"{key}.{field} is missing. Add it."
    return f"{key}{_rule(kind, problem['msg'])}{_got(kind, problem['msg'], value)}"


_RULES = {  # pydantic's types, as people who write YAML know them
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be an integer",
    "int_parsing": "must be an integer",
    "int_type": "must be an integer",
    "list_type": "must be a list",
    "model_attributes_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_type": "must be a string",
    "tuple_type": "must be a list",
    "union_tag_not_found": "must be a mapping",
}


def _rule(kind: str, message: str) -> str:
    """What must hold, to be put after a key."""
    if kind in _RULES:
        return f" {_RULES[kind]}"
    if message.startswith("Input should be "):
        return " must be " + message.removeprefix("Input should be ")
    return ": " + message.removeprefix("Value error, ")


def _got(kind: str, message: str, value: Any) -> str:
    """The value, unless a validator's message has it or it is a whole section; and how to write what YAML misread."""
    if kind == "value_error" and ("got " in message or isinstance(value, Mapping | BaseModel)):
        return ""
    got = f", got {value!r:.80}"
    if kind == "string_type" and isinstance(value, bool):
        return f"{got}. YAML reads on, off, yes, no, true and false as truth values. Put the value in quotes."
    if kind == "string_type" and isinstance(value, int | float):
        return f'{got}. YAML reads it as a number. Put it in quotes: "{value}".'
    return got


def _holds_bool(value: Any, annotation: Any) -> bool:
    """Whether a value is a truth value or a list or mapping with one; a nested configuration checks its own."""
    if isinstance(value, Mapping) and not _models(annotation):
        return any(isinstance(part, bool) for part in value.values())
    if isinstance(value, list | tuple):
        return any(isinstance(part, bool) for part in value)
    return isinstance(value, bool)


def _takes_bool(annotation: Any) -> bool:
    """Whether an annotation has a place for a truth value; Any and aliases such as JsonValue do."""
    if get_origin(annotation) is Literal:
        return any(isinstance(value, bool) for value in get_args(annotation))
    parts = get_args(annotation)
    if parts:
        return any(map(_takes_bool, parts))
    return annotation in (bool, Any, object) or not isinstance(annotation, type)


def _walk(model: type[BaseModel], path: list[str]) -> tuple[list[str], list[str]]:
    """Follows `path` from `model` through the annotations; returns the keys on the way and the valid keys at its end.

    Where a value is a union of models, pydantic adds the tag of the selected model to the path. A tag is not a key.
    """
    keys, models = [], [model]
    for part in path:
        tagged = [candidate for candidate in models if _has_tag(candidate, part)]
        if not tagged and part in own_members and _is_union(models):
            tagged = [own_members[part]]
        if not tagged:
            keys.append(part)
        fields = [candidate.model_fields[part] for candidate in models if part in candidate.model_fields]
        models = tagged or [nested for field in fields for nested in _models(field.annotation)] or models
    return keys, [name for candidate in models for name in candidate.model_fields]


def _is_union(models: list[type[BaseModel]]) -> bool:
    """Whether the models are the members of a family, each with its name."""
    return any(get_origin(next(iter(model.model_fields.values())).annotation) is Literal for model in models)


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    types = [field.annotation for field in model.model_fields.values()]
    return any(get_origin(annotation) is Literal and get_args(annotation) == (tag,) for annotation in types)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
