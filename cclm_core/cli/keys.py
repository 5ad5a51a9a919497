"""The keys of configurations: values with their defaults, and the meanings of keys."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from cclm_core.runtime.config import Config

_DOCUMENTED = re.compile(r"^    (\w[\w, ]*): (.*(?:\n        .*)*)", re.MULTILINE)


def complete(value: Any) -> Any:
    """A configuration as plain values, including keys that digests leave out because they have their default."""
    if isinstance(value, BaseModel):
        return {name: complete(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): complete(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [complete(part) for part in value]
    return to_jsonable_python(value)


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Key -> its meaning: the description of the field, or its text under `Attributes` or `Args` in the docstring."""
    documented: dict[str, str] = {}
    for ancestor in reversed([parent for parent in model.__mro__ if issubclass(parent, Config)]):
        text = inspect.cleandoc(ancestor.__doc__ or "")
        section = re.split(r"^(?:Attributes|Args):$", text, maxsplit=1, flags=re.MULTILINE)[1:]
        for match in _DOCUMENTED.finditer("".join(section)):
            for name in match[1].split(", "):
                documented[name] = " ".join(match[2].split())
    described = {name: field.description for name, field in model.model_fields.items() if field.description}
    return documented | described
