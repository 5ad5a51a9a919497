"""Reading `params.yaml`: each stage sees its own section alone, checked by the config that owns it."""

from pathlib import Path
from typing import Any, TypeVar

from cclm_core.runtime.config import Config, load_yaml, nearest
from cclm_core.runtime.errors import ConfigError

SECTIONS = (
    "seed",
    "ingest",
    "vocabulary",
    "noise",
    "base",
    "components",
    "compositions",
    "evaluation",
    "promotion",
)

NAMED = ("components", "compositions")
"""Sections whose keys are names that users choose: one that is asked for must be there."""

C = TypeVar("C", bound=Config)


def section(params: Path, key: str, config: type[C]) -> C:
    """The section at `key` of `params`, e.g. `components.entities`; a section that is absent takes its defaults.

    Raises:
        ConfigError: an unknown key anywhere on the way (with the nearest known one), or an invalid value.
    """
    values: Any = load(params)
    first, *rest = key.split(".")
    values = values.get(first)
    for part in rest:
        if first in NAMED and part not in (values or {}):
            raise ConfigError(f"{params}: {key} is not there; {nearest(part, list(values or {}))}")
        values = (values or {}).get(part)
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"{params}: {key} must be a mapping, got {values!r}.")
    return config.parse(values, f"{params}: {key}")


def seed(params: Path) -> int:
    """The seed of the whole pipeline.

    Raises:
        ConfigError: it is missing or no integer.
    """
    value = load(params).get("seed")
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{params}: seed must be an integer, got {value!r}.")
    return value


def load(params: Path) -> dict[str, Any]:
    """The whole file; an unknown section is refused.

    Raises:
        ConfigError: the file is missing or no YAML, or has a section that nothing reads.
    """
    values = load_yaml(params)
    for key in values:
        if key not in SECTIONS:
            raise ConfigError(f"{params}: {key} is not a known section; {nearest(str(key), list(SECTIONS))}")
    return values
