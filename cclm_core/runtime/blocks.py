"""Building blocks of your own, as equal members of the families: encoders, objectives, heads, fusions and so on.

A family is a union of configuration classes, selected by name. `Registered` extends such a union by the classes that
`block` has registered. The name of your own block ends in its version, so that a changed block gets another name:

```python
@block("objective")
class InitialsConfig(Config):
    objective: Literal["initials.v1"] = "initials.v1"
    rate: float = Field(default=0.5, gt=0, le=1, description="share of words to predict")

    def build(self, context: ObjectiveContext) -> "Initials": ...
```

A block is registered when its file runs. A file runs when an unknown name is read, and `own_code` offers the file; or
when a package is installed that has an entry point of the group `cclm.blocks` with the name of the block.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError, ValidatorFunctionWrapHandler
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, PydanticKnownError, core_schema

from cclm_core.runtime.config import nearest, own_members
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.own_code import OwnCode, offers, require_trust, running

ENTRY_POINTS = "cclm.blocks"
"""The group of entry points; the name of an entry point is that of a block."""

_NAME = re.compile(r"[a-z][a-z0-9_]*\.v[1-9][0-9]*")

M = TypeVar("M")


class Family:
    """What the members of a family have in common.

    Args:
        field: the first key of a configuration, which selects the member; None if members are no configurations.
        needs: names of attributes that a member must have.
    """

    def __init__(self, field: str | None, *needs: str) -> None:
        self.field, self.needs = field, needs


FAMILIES: dict[str, Family] = {
    "baseline": Family("baseline", "build"),
    "encoder": Family("kind", "build", "learning_rate", "causal"),
    "fusion": Family("kind", "build"),
    "head": Family("head", "build"),
    "noise": Family(None, "count", "emit", "description", "acts_on", "reach"),
    "objective": Family("objective", "build"),
    "probe": Family("probe", "build"),
    "schedule": Family("schedule", "at"),
    "spans": Family("spans", "spans_of"),
}
"""The families that accept blocks of your own."""


@dataclass(frozen=True)
class Block:
    """One block of your own.

    Attributes:
        family: a key of `FAMILIES`.
        name: its name with its version, such as `initials.v1`.
        member: the configuration class, or the object for families without configurations.
        code: the file that defines it; None if it was typed into an interactive session.
    """

    family: str
    name: str
    member: Any
    code: OwnCode | None

    @property
    def key(self) -> str:
        """Family and name, as in the code.json of an artifact."""
        return f"{self.family} {self.name}"

    @property
    def source(self) -> str:
        """Where it is defined, for messages."""
        return "this session" if self.code is None else f"{self.code.path} (SHA-256 {self.code.digest[:12]})"


_BLOCKS: dict[tuple[str, str], Block] = {}


def block(family: str, name: str | None = None) -> Callable[[M], M]:
    """Registers a member of a family: a decorator for its configuration class.

    Args:
        family: a key of `FAMILIES`.
        name: for families without configurations: its name, such as `leet.v1`.

    Raises:
        ConfigError: there is no such family, the member lacks what the family needs, its name does not end in a
            version, or another file has registered the same name.
    """
    if family not in FAMILIES:
        raise ConfigError(f"no family of building blocks is called {family!r}; {nearest(family, list(FAMILIES))}")
    code = running() or _code_of(sys._getframe(1).f_globals.get("__file__"))

    def register(member: M) -> M:
        """Adds the member."""
        given = _name_of(family, member, name)
        for attribute in FAMILIES[family].needs:
            fields = getattr(member, "model_fields", {})
            if not hasattr(member, attribute) and attribute not in fields:
                raise ConfigError(f"the {family} {given} needs {attribute!r}. docs/blocks.md shows an example.")
        new = Block(family, given, member, code)
        old = _BLOCKS.get((family, given))
        if old is not None and _digest(old) != _digest(new):
            raise ConfigError(
                f"the {family} {given} is defined twice, in {old.source} and in {new.source}. Give the second one "
                f"another name or the next version."
            )
        _BLOCKS.setdefault((family, given), new)
        if inspect.isclass(member) and issubclass(member, BaseModel):
            own_members.setdefault(given, member)
        return member

    return register


def names(family: str) -> list[str]:
    """The names of the blocks of a family that are registered in this process, sorted."""
    return sorted(name for kind, name in _BLOCKS if kind == family)


def find(family: str, name: str) -> Block | None:
    """The block of a name, after running the file that defines it, if one is offered.

    Raises:
        ConfigError: a file that defines it is not trusted, cannot be run, or has another content than the block of the
            same name in this process.
    """
    if not _NAME.fullmatch(name):
        return None
    _refuse_other_versions(family, name)
    if (family, name) not in _BLOCKS:
        _run_entry_point(family, name)
    for offer in offers():
        if (family, name) in _BLOCKS:
            break
        defining = {digest for key, digest in offer.blocks if key == f"{family} {name}"}
        for code in offer.files:
            if offer.folder is None or code.digest in defining:
                require_trust(code, offer)
                code.run()
    _refuse_other_versions(family, name)
    return _BLOCKS.get((family, name))


def blocks_in(config: Any) -> list[Block]:
    """The blocks that a configuration uses, at any depth, sorted by family and name.

    Args:
        config: a configuration, or a list or mapping of configurations.
    """
    members = {id(entry.member): entry for entry in _BLOCKS.values()}
    used: dict[str, Block] = {}
    for value in _values(config):
        entry = members.get(id(type(value)))
        if entry is None and isinstance(value, str) and _NAME.fullmatch(value):
            entry = _BLOCKS.get(("noise", value))
        if entry is not None:
            used[entry.key] = entry
    return [used[key] for key in sorted(used)]


def code_in(config: Any) -> list[tuple[str, OwnCode]]:
    """The blocks that a configuration uses, each with its file; for `own_code.write_code`.

    Raises:
        ConfigError: a block has no file, because it was typed into an interactive session.
    """
    pairs = []
    for entry in blocks_in(config):
        if entry.code is None:
            raise ConfigError(
                f"the {entry.family} {entry.name} was defined in an interactive session, so a saved model would not "
                "have its code. Put it into a file, and import the file."
            )
        pairs.append((entry.key, entry.code))
    return pairs


def block_digests(config: Any) -> dict[str, str] | None:
    """Block -> SHA-256 of its file, for the identity of a result; None if the configuration uses none."""
    return {key: code.digest for key, code in code_in(config)} or None


class Registered:
    """In `Annotated[A | B, Field(discriminator="kind"), Registered("encoder")]`: also accepts your own members."""

    def __init__(self, family: str) -> None:
        self.family = family

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Wraps the schema of the union."""
        union = handler(source)
        return core_schema.no_info_wrap_validator_function(
            partial(_validate, self.family),
            union,
            serialization=core_schema.wrap_serializer_function_ser_schema(
                _serialize, is_field_serializer=False, info_arg=True, schema=union
            ),
        )


def _validate(family: str, value: Any, union: ValidatorFunctionWrapHandler) -> Any:
    field = FAMILIES[family].field
    assert field is not None
    if _is_member(family, value):
        return value
    tag = value.get(field) if isinstance(value, Mapping) else None
    if not isinstance(tag, str):
        return union(value)
    entry = find(family, tag)
    if entry is not None:
        return _parsed(entry, value)
    if tag.endswith(".v1"):  # version 1 of a member of the library
        try:
            return union({**value, field: tag.removesuffix(".v1")})
        except ValidationError as error:
            if error.errors()[0]["type"] != "union_tag_invalid":
                raise
    try:
        return union(value)
    except ValidationError as error:
        raise _with_own_names(error, family) from None


def _with_own_names(error: ValidationError, family: str) -> Exception:
    """The error for an unknown name lists your own names, too."""
    problem = error.errors()[0]
    if problem["type"] != "union_tag_invalid" or problem["loc"] or not names(family):
        return error
    own = ", ".join(f"'{name}'" for name in names(family))
    context = {**problem["ctx"], "expected_tags": f"{problem['ctx']['expected_tags']}, {own}"}
    return PydanticKnownError("union_tag_invalid", context)


def _parsed(entry: Block, value: Mapping[str, Any]) -> Any:
    """A configuration of one's own block. The paths of its errors have its name, as in a union of pydantic."""
    try:
        return entry.member.model_validate(dict(value))
    except ValidationError as error:
        details = [
            InitErrorDetails(
                type=_kind(problem),
                loc=(entry.name, *problem["loc"]),
                input=problem["input"],
                ctx=problem.get("ctx", {}),
            )
            for problem in error.errors()
        ]
        raise ValidationError.from_exception_data(error.title, details) from None


def _kind(problem: Any) -> Any:
    try:
        PydanticKnownError(problem["type"], problem.get("ctx"))
    except (KeyError, TypeError, ValueError):
        return PydanticCustomError(problem["type"], problem["msg"].replace("{", "{{").replace("}", "}}"))
    return problem["type"]


def _serialize(value: Any, handler: Any, info: Any) -> Any:
    if any(type(value) is entry.member for entry in _BLOCKS.values()):
        return value.model_dump(
            mode=info.mode, exclude_unset=info.exclude_unset, exclude_defaults=info.exclude_defaults
        )
    return handler(value)


def _is_member(family: str, value: Any) -> bool:
    return any(kind == family and type(value) is entry.member for (kind, _), entry in _BLOCKS.items())


def _name_of(family: str, member: Any, name: str | None) -> str:
    field = FAMILIES[family].field
    if field is not None:
        if not (inspect.isclass(member) and issubclass(member, BaseModel)):
            raise ConfigError(f"the {family} must be a configuration class, got {member!r:.80}. Derive it from Config.")
        first = next(iter(member.model_fields.items()), None)
        literal = None if first is None else first[1].annotation
        if first is None or first[0] != field or get_origin(literal) is not Literal or len(get_args(literal)) != 1:
            example = f'{field}: Literal["my_block.v1"] = "my_block.v1"'
            raise ConfigError(f"the first field of {member.__name__} must be its name: `{example}`.")
        name = str(get_args(literal)[0])
        if first[1].default != name:
            raise ConfigError(
                f"{member.__name__}: the default of `{field}` must be {name!r}, got {first[1].default!r}."
            )
    if name is None or not _NAME.fullmatch(name):
        raise ConfigError(
            f"the name of a block must be lowercase and end in its version, such as initials.v1, got {name!r:.80}."
        )
    return name


def _code_of(file: Any) -> OwnCode | None:
    return OwnCode.read(file) if isinstance(file, str) and file.endswith(".py") else None


def _digest(entry: Block) -> str | None:
    return None if entry.code is None else entry.code.digest


def _refuse_other_versions(family: str, name: str) -> None:
    """Refuses an artifact whose block has another content than the block of the same name in this process."""
    entry = _BLOCKS.get((family, name))
    if entry is None:
        return
    for offer in offers():
        for key, digest in offer.blocks:
            if key == entry.key and digest != _digest(entry):
                raise ConfigError(
                    f"{offer.folder} was made with another version of the {family} {name}: SHA-256 {digest[:12]}, but "
                    f"{entry.source} is loaded. Use the same file, or give the changed block the next version."
                )


def _run_entry_point(family: str, name: str) -> None:
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        try:
            entry.load()
        except Exception as error:
            raise ConfigError(
                f"the {family} {name} is the entry point {entry.value}, which cannot be loaded: "
                f"{type(error).__name__}: {error}. Correct or uninstall that package."
            ) from error


def _values(config: Any) -> Iterator[Any]:
    """A configuration and all values in it, at any depth."""
    yield config
    if isinstance(config, BaseModel):
        parts: Any = [getattr(config, name) for name in type(config).model_fields]
    elif isinstance(config, Mapping):
        parts = [*config, *config.values()]
    else:
        parts = config if isinstance(config, list | tuple) else ()
    for part in parts:
        yield from _values(part)
