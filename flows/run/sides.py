"""The two sides of `cclm compare`: a composition or task of the project, a registered version, or a folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cclm_core.evaluation.metrics import Metric, read_metrics
from cclm_core.runtime.artifacts import MANIFEST, verify
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ArtifactError, ConfigError
from flows.gate.candidates import results_are_outdated
from flows.gate.descriptions import version_figures
from flows.gate.registry import Registry, Version, model_name
from flows.gate.seal import SealError, sealed_copy
from flows.gate.stored_results import fetch_results
from flows.graph.evaluations import MODEL_KINDS, Evaluation, evaluations
from flows.graph.node import artifact_kind
from flows.graph.plan import read_plan
from flows.project import Project
from flows.tracking.client import connect, enabled
from flows.tracking.metrics import result_metrics

_VERSION = re.compile(r"(?P<name>[\w-]+)(?:/(?P<number>\d+)|@(?P<alias>[\w-]+))")


@dataclass(frozen=True)
class Side:
    """What is known about one side.

    Attributes:
        label: what the user wrote.
        kind: `composition` or `task`; None for a folder with results alone.
        model: folder of the model, or None.
        results: folder with results; None if there are none.
        metrics: metrics by name.
        code: facts about the code, such as the git commit of a registered version.
        notes: what is missing or outdated, for people.
    """

    label: str
    kind: str | None
    model: Path | None
    results: Path | None
    metrics: Mapping[str, Metric]
    code: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def open_side(project: Project, text: str, scratch: Path) -> Side:
    """Resolves one argument of `cclm compare`.

    Args:
        project: the project.
        text: NAME, NAME@ALIAS, NAME/NUMBER, or a published folder.
        scratch: a folder of its own, for the files of a registered version.

    Raises:
        ConfigError: there is no such model, version or folder.
        TrackingError: MLflow cannot be reached.
    """
    measured = evaluations(read_plan(project, changes=False), project)
    if (Path(text) / MANIFEST).is_file():
        return _folder(text, Path(text).resolve(), measured)
    for evaluation in measured:
        if evaluation.name == text:
            return _measured(text, evaluation)
    match = _VERSION.fullmatch(text)
    if match is None:
        names = [evaluation.name for evaluation in measured]
        raise ConfigError(
            f"{text} is no composition or task with results, no registered version (NAME@champion, NAME/3) and no "
            f"published folder; {nearest(text, names)}"
        )
    if not enabled():
        raise ConfigError(f"CCLM_TRACKING must not be off to compare {text}: the registry is MLflow's. Unset it.")
    return _registered(project, text, match["name"], match["number"], match["alias"], scratch)


def _measured(label: str, evaluation: Evaluation) -> Side:
    note = f"the results of {label} belong to another {evaluation.kind}; run `cclm run` to measure this one"
    outdated = (note,) if results_are_outdated(evaluation) else ()
    metrics = _metrics(evaluation.results)
    return Side(label, evaluation.kind, evaluation.model, evaluation.results, metrics, notes=outdated)


def _folder(label: str, folder: Path, measured: list[Evaluation]) -> Side:
    kind = artifact_kind(folder)
    verify(folder, *MODEL_KINDS, "evaluation")
    for evaluation in measured:
        if folder in (evaluation.model.resolve(), evaluation.results.resolve()):
            return _measured(label, evaluation)
    if kind == "evaluation":
        return Side(label, None, None, folder, _metrics(folder), notes=(f"{label} has results, but no model",))
    return Side(label, kind, folder, None, {}, notes=(f"{label} is not measured in this project",))


def _registered(project: Project, label: str, name: str, number: str | None, alias: str | None, scratch: Path) -> Side:
    tracking = connect(project)
    registry, model = Registry(tracking), model_name(name)
    aliases = registry.model(model).aliases
    versions = {version.number: version for version, _ in registry.all_versions() if version.model == model}
    version = versions.get(number or aliases.get(alias or "", ""))
    if version is None:
        known = [f"{name}@{alias}" for alias in sorted(aliases)] + [f"{name}/{number}" for number in versions]
        hint = nearest(label, known) if known else f"{model} has no versions"
        raise ConfigError(f"{label} is not registered; {hint}")
    notes: list[str] = []
    results = _stored(registry, version, scratch / "results", notes)
    folder = None
    try:
        sealed_copy(tracking, model, version.number, version.tags, scratch / "model")
        folder = next(path.parent for path in sorted((scratch / "model" / "artifacts").glob(f"*/{MANIFEST}")))
    except (SealError, StopIteration) as error:
        notes.append(f"{label} is not loaded: {error or 'it has no model'}")
    code = {key: version.tags[key] for key in ("git.commit", "git.dirty") if key in version.tags}
    metrics = version_figures(version.tags) if results is None else _metrics(results)
    return Side(label, artifact_kind(folder) if folder else None, folder, results, metrics, code, tuple(notes))


def _stored(registry: Registry, version: Version, folder: Path, notes: list[str]) -> Path | None:
    try:
        return fetch_results(registry.tracking, version, folder)
    except ArtifactError as error:
        notes.append(str(error))
        return None


def _metrics(results: Path) -> dict[str, Metric]:
    plain = {name: Metric(value=value) for name, value in result_metrics(results).items()}
    return plain | read_metrics(results)
