"""`cclm models`: what is registered, with versions, champions and main figures."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from cclm_core.evaluation.metrics import Metric
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.reporting import format_duration
from flows.formats import ARROWS, format_megabytes
from flows.gate.descriptions import GATE_REASON_TAG, GATE_RESULT_TAG, KIND_TAG, SIZE_TAG, version_figures
from flows.gate.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry, Version
from flows.graph.evaluations import COMPOSITION
from flows.project import Project
from flows.run.tables import cell, output_console, print_table
from flows.tracking.client import connect, enabled

MAX_FIGURES = 6  # per model in the table; --json has all


@dataclass(frozen=True)
class RegisteredModel:
    """A registered composition or task.

    Attributes:
        name: without `cclm-`.
        model: name of the registered model.
        kind: `composition` or `task`.
        versions: number of versions.
        champion, candidate, previous: version numbers; None if no version has the alias.
        shown: number of the version that the following describe: the champion, otherwise the newest one.
        figures: main metric -> value, interval, better direction.
        megabytes: size of the model; None if unknown.
        registered: Unix seconds.
        result, reason: the last decision about it.
    """

    name: str
    model: str
    kind: str
    versions: int
    champion: str | None
    candidate: str | None
    previous: str | None
    shown: str
    figures: dict[str, dict[str, Any]]
    megabytes: float | None
    registered: float
    result: str
    reason: str


def registered_models(registry: Registry) -> list[RegisteredModel]:
    """All registered models, by name.

    Raises:
        TrackingError: the registry cannot be reached.
    """
    versions: dict[str, list[tuple[Version, float]]] = {}
    for version, created in registry.all_versions():
        versions.setdefault(version.model, []).append((version, created))
    return [_model(registry, model, entries) for model, entries in sorted(versions.items())]


def show(project: Project, as_json: bool) -> None:
    """Prints the registered models as a table, or as JSON.

    Raises:
        ConfigError: tracking is off.
        TrackingError: the registry cannot be reached.
    """
    if not enabled():
        raise ConfigError("CCLM_TRACKING must not be off for `cclm models`: the registry is MLflow's. Unset it.")
    registered = registered_models(Registry(connect(project)))
    if as_json:
        print(json.dumps([asdict(model) for model in registered], indent=2))
        return
    if not registered:
        print("No model is registered. `cclm run` registers compositions and tasks.")
        return
    rows = model_rows(registered, time.time())
    print_table(output_console(), _table(rows), rows)


def model_rows(models: Sequence[RegisteredModel], now: float) -> list[dict[str, str]]:
    """The rows of the table.

    Args:
        models: see `registered_models`.
        now: Unix seconds, for the age.
    """
    return [
        {
            "model": model.name,
            "kind": model.kind,
            "versions": str(model.versions),
            CHAMPION: model.champion or "none",
            CANDIDATE: model.candidate or "none",
            "figures of": f"version {model.shown}",
            "figures": "\n".join(_figures(model.figures)),
            "size": "" if model.megabytes is None else format_megabytes(model.megabytes),
            "age": format_duration(max(0.0, now - model.registered)),
        }
        for model in models
    ]


def _model(registry: Registry, model: str, entries: list[tuple[Version, float]]) -> RegisteredModel:
    aliases = registry.model(model).aliases
    entries = sorted(entries, key=lambda entry: int(entry[0].number))
    champion = aliases.get(CHAMPION)
    shown, created = next((entry for entry in entries if entry[0].number == champion), entries[-1])
    size = shown.tags.get(SIZE_TAG, "")
    return RegisteredModel(
        name=model.removeprefix("cclm-"),
        model=model,
        kind=shown.tags.get(KIND_TAG, COMPOSITION),
        versions=len(entries),
        champion=champion,
        candidate=aliases.get(CANDIDATE),
        previous=aliases.get(PREVIOUS),
        shown=shown.number,
        figures={name: metric.canonical() for name, metric in version_figures(shown.tags).items()},
        megabytes=int(size) / 1e6 if size.isdigit() else None,
        registered=created,
        result=shown.tags.get(GATE_RESULT_TAG, ""),
        reason=shown.tags.get(GATE_REASON_TAG, ""),
    )


def _figures(figures: Mapping[str, dict[str, Any]]) -> list[str]:
    metrics = {name: Metric.parse(value, name) for name, value in figures.items()}
    lines = [f"{name} {ARROWS[metric.better]} {cell(metric)}" for name, metric in metrics.items()]
    rest = len(lines) - MAX_FIGURES
    return [*lines[:MAX_FIGURES], *([f"and {rest} more"] if rest > 0 else [])]


def _table(rows: Sequence[Mapping[str, str]]) -> Table:
    table = Table(title="Registered models", title_justify="left", show_lines=True)
    for column in rows[0]:
        table.add_column(column, justify="right" if column in ("versions", "size", "age") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row.values())
    return table
