"""What the stages of dvc.yaml read, without DVC: parameters and dependencies, with `foreach` expanded."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Reading:
    """A stage and what it reads.

    Attributes:
        group: its key under `stages`.
        item: the name after the `@` of a `foreach` stage; "" for others.
        params: keys of params.yaml, such as `seed` and `compositions.full`.
        deps: paths of its dependencies.
    """

    group: str
    item: str
    params: tuple[str, ...]
    deps: tuple[str, ...]

    @property
    def name(self) -> str:
        """DVC's name of the stage."""
        return f"{self.group}@{self.item}" if self.item else self.group


def readings(dvc_yaml: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[Reading]:
    """The stages of a dvc.yaml, given the content of params.yaml. Stages in a form that is not known are left out.

    >>> stages = {"compose": {"foreach": "${compositions}", "do": {"cmd": "make", "params": ["compositions.${key}"]}}}
    >>> [(stage.name, stage.params) for stage in readings({"stages": stages}, {"compositions": {"full": {}}})]
    [('compose@full', ('compositions.full',))]
    """
    stages = dvc_yaml.get("stages")
    for group, body in (stages if isinstance(stages, dict) else {}).items():
        if not isinstance(body, dict):
            continue
        if "foreach" not in body:
            yield _reading(str(group), "", body)
        elif isinstance(body.get("do"), dict):
            for item in _items(body["foreach"], params):
                yield _reading(str(group), item, body["do"])


def iterated_sections(dvc_yaml: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The stages with `foreach` over a section of params.yaml: the key under `stages`, and the section.

    >>> list(iterated_sections({"stages": {"compose": {"foreach": "${compositions}", "do": {}}, "base": {}}}))
    [('compose', 'compositions')]
    """
    stages = dvc_yaml.get("stages")
    for group, body in (stages if isinstance(stages, dict) else {}).items():
        foreach = body.get("foreach") if isinstance(body, dict) else None
        if isinstance(foreach, str) and (match := _REFERENCE.fullmatch(foreach)) and "." not in match[1]:
            yield str(group), match[1]


def _items(foreach: Any, params: Mapping[str, Any]) -> list[str]:
    """The names that `foreach` iterates over: of a mapping, its keys."""
    values = foreach
    if isinstance(foreach, str) and (match := _REFERENCE.fullmatch(foreach)):
        values = params
        for key in match[1].split("."):
            values = values.get(key) if isinstance(values, Mapping) else None
    return [str(value) for value in values] if isinstance(values, list | dict) else []


def _reading(group: str, item: str, body: Mapping[str, Any]) -> Reading:
    def strings(key: str) -> tuple[str, ...]:
        """The strings in a list of the stage, with `key` and `item` filled in."""
        values = body.get(key)
        texts = [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
        return tuple(text.replace("${key}", item).replace("${item}", item) for text in texts)

    return Reading(group, item, strings("params"), strings("deps"))
