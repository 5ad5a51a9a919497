r"""The one reader of JSON and YAML. Whatever is wrong with a file becomes one error with its path and what to do.

```
read_bytes(path)              the content of a regular file of a bounded size
parse_json(content, source)   one JSON value        read_json(path)   a JSON object
parse_yaml(content, source)   one YAML document     read_yaml(path)
```

Stricter than the libraries, so that nothing is read differently from what a person sees: a key that appears twice is
refused, and so are NaN and infinity in JSON, lone surrogates, and nesting deeper than `MAX_DEPTH`. In YAML, keys must
be strings and dates are refused: a component named 2024 or on, or a group named 2024-01-01, has to be put in quotes.

>>> parse_json('{"a": 1, "a": 2}', "x.json")
Traceback (most recent call last):
cclm_core.runtime.errors.ArtifactError: x.json is not valid: the key 'a' appears twice. Run the stage that creates it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from cclm_core.runtime.errors import ArtifactError, CclmError, ConfigError
from cclm_core.runtime.files import StrPath, as_path

MAX_DEPTH = 100
"""Levels of nesting in JSON and YAML."""

MAX_BYTES = 256 << 20
"""The size of a JSON file. The largest that a stage writes, the targets of a vocabulary, has a few MB."""

_MAX_YAML_BYTES = 16 << 20
_MAX_NODES = 1 << 20  # values in a YAML document after its aliases are expanded
_CREATE = "Run the stage that creates it."
_LFS = b"version https://git-lfs"
# Whatever PyYAML and its constructors raise for a damaged document, apart from its own errors.
_RAISED = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)


def read_bytes(
    path: StrPath, error: type[CclmError] = ArtifactError, remedy: str = _CREATE, max_bytes: int = MAX_BYTES
) -> bytes:
    """Reads a file whole, after checking its kind and size.

    Args:
        path: the file.
        error: the class of the error.
        remedy: the last sentence of every message: what to do.
        max_bytes: the largest size.

    Raises:
        CclmError: `error`; the file is missing, cannot be read, is not a regular file, is larger than `max_bytes`, or
            is a pointer of Git LFS.
    """
    path = as_path(path)
    try:
        if not path.exists():
            raise error(f"{path} not found. {remedy}")
        if not path.is_file():
            raise error(f"{path} must be a file, but it is a folder or a device. {remedy}")
        if (size := path.stat().st_size) > max_bytes:
            raise error(f"{path} must have at most {max_bytes:,} bytes, got {size:,}. {remedy}")
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}. {remedy}") from None
    if content.startswith(_LFS):
        raise error(f"{path} is a pointer of Git LFS, not the file itself. Run `git lfs pull`.")
    return content


def read_json(path: StrPath, error: type[CclmError] = ArtifactError, remedy: str = _CREATE) -> dict[str, Any]:
    """Reads a JSON file that contains an object; arguments as in `read_bytes`.

    Raises:
        CclmError: `error`; another value than an object; or see `read_bytes` and `parse_json`.
    """
    value = parse_json(read_bytes(path, error, remedy), path, error, remedy)
    if not isinstance(value, dict):
        raise error(f"{path} must contain a JSON object, got {value!r:.80}. {remedy}")
    return value


def parse_json(
    content: str | bytes,
    source: object,
    error: type[CclmError] = ArtifactError,
    remedy: str = _CREATE,
    *,
    allow_nan: bool = False,
) -> Any:
    """Parses one JSON value.

    Args:
        content: JSON, as text or in UTF-8.
        source: where it is from, in messages.
        error: the class of the error.
        remedy: the last sentence of every message: what to do.
        allow_nan: whether NaN and infinity are accepted, for figures that were measured.

    Raises:
        CclmError: `error`; not JSON in UTF-8, a key that appears twice, NaN or infinity, a lone surrogate, or nesting
            that is too deep.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=None if allow_nan else _refuse_constant)
        _check(value, allow_nan)
    except RecursionError:
        raise error(f"{source} is not valid: nested deeper than {MAX_DEPTH} levels. {remedy}") from None
    except json.JSONDecodeError as problem:
        raise error(f"{source} is not valid JSON: {_brief(problem)}. {remedy}") from None
    except (ValueError, MemoryError) as problem:  # ValueError: not UTF-8, or one of the checks
        raise error(f"{source} is not valid: {_brief(problem)}. {remedy}") from None
    return value


def read_yaml(path: StrPath) -> Any:
    """Reads a YAML file.

    Raises:
        ConfigError: see `read_bytes` and `parse_yaml`.
    """
    remedy = "Run the command in the project folder, or pass the path."
    return parse_yaml(read_bytes(path, ConfigError, remedy, _MAX_YAML_BYTES), path)


def parse_yaml(content: str | bytes, source: object) -> Any:
    """Parses one YAML document.

    Args:
        content: YAML, as text or in UTF-8.
        source: where it is from, in messages.

    Raises:
        ConfigError: not YAML in UTF-8; a key that appears twice or is not a string; a date, a number such as `1:30` or
            `010` that YAML reads as another number, a value of another type than JSON has, a lone surrogate, or
            nesting that is too deep. The message gives line and column.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        value = yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader
        _check(value, allow_nan=True)
    except _MisreadError as problem:
        raise ConfigError(f"{source}: {problem}") from None
    except yaml.MarkedYAMLError as problem:
        reason = f"{_place(problem.problem_mark)}{problem.problem or problem.context}"
        raise ConfigError(f"{source} is not valid YAML: {reason}. Correct it.") from None
    except RecursionError:
        raise ConfigError(f"{source} is not valid YAML: nested deeper than {MAX_DEPTH} levels. Correct it.") from None
    except (yaml.YAMLError, *_RAISED) as problem:
        raise ConfigError(f"{source} is not valid YAML in UTF-8: {_brief(problem)}. Correct it.") from None
    return value


class _MisreadError(Exception):
    """A value that YAML reads as something else than a person does; the message names the remedy."""


class _Loader(yaml.SafeLoader):
    """Refuses keys that appear twice, keys that are not strings, dates, and numbers in a surprising notation."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping after checking its keys."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            place = _place(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                raise _MisreadError(f"{place}a key must be a name, got a list or mapping. Put it in quotes.")
            if key.tag != "tag:yaml.org,2002:str":
                kind = key.tag.rpartition(":")[2]
                article = "an" if kind.startswith("i") else "a"
                raise _MisreadError(
                    f"{place}YAML reads the key {key.value or 'of this line'} as {article} {kind}. "
                    f'Put it in quotes: "{key.value}".'
                )
            if key.value in seen:
                raise _MisreadError(f"{place}the key {key.value!r} appears twice in one mapping. Remove one.")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def refuse_date(self, node: yaml.ScalarNode) -> Any:
        """Refuses a date: no setting is one."""
        raise _MisreadError(
            f'{_place(node.start_mark)}YAML reads {node.value} as a date. Put it in quotes: "{node.value}".'
        )

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """Builds a number unless its notation is octal or sexagesimal: `010` is 8 in YAML 1.1, and `1:30` is 90."""
        is_int = node.tag.endswith(":int")
        value = self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)
        if ":" in node.value or (is_int and re.fullmatch(r"[-+]?0[0-7_]+", node.value)):
            raise _MisreadError(
                f"{_place(node.start_mark)}YAML reads {node.value} as the number {value}. Write {value}, or put it in "
                f'quotes: "{node.value}".'
            )
        return value


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.refuse_date)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def _check(value: Any, allow_nan: bool) -> None:
    """Raises ValueError or RecursionError for a value that JSON cannot store, or that is nested too deeply."""
    pending: list[Iterator[Any]] = [iter((value,))]
    nodes = 0
    while pending:
        for part in pending[-1]:
            nodes += 1
            if isinstance(part, dict):
                pending.append(_parts(part))
            elif isinstance(part, list):
                pending.append(iter(part))
            else:
                _check_scalar(part, allow_nan)
                continue
            break
        else:
            pending.pop()
        if len(pending) > MAX_DEPTH + 1:  # the first level holds the whole value
            raise RecursionError
        if allow_nan and nodes > _MAX_NODES:  # only YAML has aliases, which multiply
            raise ValueError(f"more than {_MAX_NODES:,} values")


def _check_scalar(value: Any, allow_nan: bool) -> None:
    if isinstance(value, str):
        if not value.isascii() and re.search("[\ud800-\udfff]", value):
            raise ValueError(f"a lone surrogate in {value!r:.80}")
    elif isinstance(value, float):
        if not allow_nan and not float("-inf") < value < float("inf"):
            raise ValueError(f"number out of range: {value}")
    elif value is not None and not isinstance(value, int):
        raise ValueError(f"value of type {type(value).__name__}: {value!r:.80}")


def _parts(mapping: dict[Any, Any]) -> Iterator[Any]:
    yield from mapping
    yield from mapping.values()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} appears twice")
    return mapping


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _place(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "


def _brief(problem: BaseException) -> str:
    """The first line of a message, or the kind of error if it has none."""
    return (str(problem).splitlines() or [type(problem).__name__])[0].rstrip(".")
