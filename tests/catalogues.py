"""The members of a family, read from its union type, so that contract tests cover new members automatically."""

from collections.abc import Iterator
from typing import Any, get_args

from cclm_core.runtime.config import Config


def members(catalogue: Any) -> list[type[Config]]:
    """The configuration classes of a union such as `EncoderConfig`, in order."""
    (union, *_) = get_args(catalogue)
    return [get_args(member)[0] if get_args(member) else member for member in get_args(union)]


def tag(member: type[Config]) -> str:
    """The name that selects a member in params.yaml: the default of its first field, the discriminator."""
    return str(next(iter(member.model_fields.values())).default)


def variants(member: type[Config]) -> Iterator[tuple[str, Config]]:
    """A member with default values. If a field is itself a family: one variant for each member of that family."""
    for name, field in member.model_fields.items():
        parts = [part for part in get_args(field.annotation) if isinstance(part, type) and issubclass(part, Config)]
        if len(parts) > 1:
            for part in parts:
                yield f"{tag(member)}-{tag(part)}", member.model_validate({name: part()})
            return
    yield tag(member), member()
