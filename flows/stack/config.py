"""`infra/stack.yaml`: the services of the stack, as plain data."""

import os
import re
import signal
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from cclm_core.runtime.config import Config, load_yaml, nearest
from cclm_core.runtime.errors import ConfigError


class HealthConfig(Config):
    """How to ask whether a service works: exactly one of `url`, `command`."""

    url: str | None = Field(None, description="answers with a status below 400 when it does")
    command: tuple[str, ...] | None = Field(None, description="exits with 0 when it does")
    every_seconds: float = Field(10.0, gt=0, description="between two questions to a service that was healthy")
    timeout_seconds: float = Field(10.0, gt=0, description="an answer that takes longer is none")
    failures: int = Field(6, ge=1, description="so many times without an answer in a row: it is restarted")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.url is None) == (self.command is None):
            raise ValueError("health must have exactly one of url, command")
        return self


class ServiceConfig(Config):
    """One process of the stack.

    A service without `health` counts as healthy once it runs; one with `once`, when it has ended with exit code 0.
    """

    command: tuple[str, ...] = Field(min_length=1)
    environment: dict[str, str] = Field({}, description="beside the stack's own environment")
    user: str = Field("", description="runs it as this user, which needs root; empty: as the supervisor's")
    port: str | None = Field(None, description="the setting with its port on 127.0.0.1, free at the start")
    health: HealthConfig | None = None
    once: bool = Field(False, description="it does its work and ends")
    only: str | None = Field(None, description="a condition that flows/stack/control.py knows; else it is left out")
    start_seconds: float = Field(300.0, gt=0, description="it must be healthy by then")
    stop_seconds: float = Field(30.0, gt=0, description="then SIGKILL")
    stop_signal: str = "SIGTERM"

    @field_validator("stop_signal")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in signal.Signals.__members__:
            raise ValueError("stop_signal must be the name of a signal, e.g. SIGTERM")
        return value


class StackConfig(Config):
    """The file: settings that the environment may override, and the services in their order."""

    settings: dict[str, int | str] = Field({})
    services: dict[str, ServiceConfig]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the file; settings of the same name in the environment take the place of its own.

        Raises:
            ConfigError: it is missing or wrong.
        """
        read = cls.parse(load_yaml(path), path.name)
        settings = {name: os.environ.get(name, value) for name, value in read.settings.items()}
        return read.model_copy(update={"settings": settings})

    def port(self, setting: str) -> int:
        """The port that a setting names.

        Raises:
            ConfigError: it is no port.
        """
        value = str(self.settings.get(setting, ""))
        if not value.isdigit() or not 0 < int(value) < 65536:
            raise ConfigError(
                f"{setting} must be a port between 1 and 65535, got {value!r}. Set it in infra/stack.yaml."
            )
        return int(value)

    def rendered(self, values: Mapping[str, str], conditions: Collection[str]) -> Self:
        """The services whose condition holds, each `{name}` replaced by its value.

        Raises:
            ConfigError: a name is not known.
        """
        known = {name: str(value) for name, value in self.settings.items()} | dict(values)
        services = {
            name: ServiceConfig.parse(_filled(service.canonical(), known), name)
            for name, service in self.services.items()
            if service.only is None or service.only in conditions
        }
        return self.model_copy(update={"services": services})


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _fill(value, known)
    if isinstance(value, Mapping):
        return {name: _filled(one, known) for name, one in value.items()}
    return [_filled(one, known) for one in value] if isinstance(value, list) else value


def _fill(text: str, known: Mapping[str, str]) -> str:
    def replaced(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise ConfigError(
                f"infra/stack.yaml: {{{match[1]}}} must be a known name; {nearest(match[1], list(known))}"
            )
        return known[match[1]]

    return re.sub(r"\{(\w+)\}", replaced, text)
