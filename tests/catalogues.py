"""The members of a family, read from the union that is its catalogue: a new member is tested without being listed."""

from collections.abc import Iterator
from typing import Any, get_args

from cclm_core.runtime.config import Config


def members(catalogue: Any) -> list[type[Config]]:
    """The configuration classes of a union like `EncoderConfig`, in its order."""
    (union, *_) = get_args(catalogue)
    return [get_args(member)[0] if get_args(member) else member for member in get_args(union)]


def tag(member: type[Config]) -> str:
    """The name by which a file chooses a member: the default of its discriminator, which is its first field."""
    return str(next(iter(member.model_fields.values())).default)


def variants(member: type[Config]) -> Iterator[tuple[str, Config]]:
    """A member with its defaults; where a field is a family of its own, once for each member of that, with its name."""
    for name, field in member.model_fields.items():
        parts = [part for part in get_args(field.annotation) if isinstance(part, type) and issubclass(part, Config)]
        if len(parts) > 1:
            for part in parts:
                yield f"{tag(member)}-{tag(part)}", member.model_validate({name: part()})
            return
    yield tag(member), member()
