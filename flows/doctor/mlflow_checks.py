"""Checks of MLflow: runs whose process has ended, damaged models, unregistered ones."""

from collections.abc import Iterator

from flows import processes
from flows.doctor.finding import Finding, Inspection
from flows.gate.integrity import find_damage, retire
from flows.gate.promote import pending, promote_workspace
from flows.gate.registry import BROKEN, CANDIDATE, CHAMPION, PREVIOUS, Registry, Version, model_name
from flows.gate.seal import seal_problem
from flows.graph.evaluations import evaluations
from flows.graph.plan import read_plan
from flows.recovery.tracked_runs import close, last_sign, running, stage_is_running
from flows.tracking.client import PROCESS_TAG
from flows.tracking.open_runs import abandoned


def tracked_runs(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each run of this machine that is RUNNING although its process has ended.

    Raises:
        UncheckedError: MLflow does not answer.
    """
    project, tracking = inspection.project, inspection.tracking
    if tracking is None:
        return
    for run in running(tracking):
        process = run.data.tags.get(PROCESS_TAG, "")
        if not process or not processes.is_gone(process) or stage_is_running(project, run):
            continue
        yield Finding(
            subject=f"{run.info.run_name} in MLflow, run {run.info.run_id}",
            problem=f"it is RUNNING, but process {processes.split(process)[1]}, which should end it, has ended",
            since=last_sign(project, run),
            remedy="forwards its reports and ends it with the status of its stage (KILLED if interrupted)",
            repair=lambda run=run: close(project, tracking, run),  # type: ignore[misc]
        )
    for note in abandoned(project, "mlflow"):
        if note.where != tracking.uri:
            pid = processes.split(note.process)[1]
            yield Finding(
                subject=f"run {note.id} in MLflow",
                problem=f"process {pid} left it open in {note.where}, but the doctor is connected to {tracking.uri}",
                since=note.opened,
                remedy=f"run the doctor with MLFLOW_TRACKING_URI={note.where}",
            )


def registered_models(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each registered version whose files are missing or altered.

    Raises:
        UncheckedError: MLflow does not answer.
    """
    project, tracking = inspection.project, inspection.tracking
    if tracking is None:
        return
    registry = Registry(tracking)
    for version, created in registry.all_versions():
        aliases = _aliases(registry, version)
        if not (reason := find_damage(tracking, version)):
            if (problem := seal_problem(project, version.tags)) and aliases:
                yield Finding(
                    subject=f"{version.model} version {version.number} ({', '.join(aliases)})",
                    problem=f"it is never loaded: {problem}",
                    since=created,
                    remedy="register the model with `cclm promote`, then accept it with `cclm promote --accept`",
                )
            continue
        yield Finding(
            subject=f"{version.model} version {version.number}" + (f" ({', '.join(aliases)})" if aliases else ""),
            problem=reason,
            since=created,
            remedy=_remedy(aliases),
            repair=lambda version=version, reason=reason: retire(  # type: ignore[misc]
                project, tracking, version, reason
            ),
        )


def unregistered(inspection: Inspection) -> Iterator[Finding]:
    """Yields a finding for each up-to-date composition or task that is not registered or has an outdated decision.

    Skipped during a run, which registers its models at the end.

    Raises:
        UncheckedError: MLflow does not answer.
    """
    project = inspection.project
    if inspection.working or inspection.tracking is None:
        return
    plan = read_plan(project)
    stale = plan.stale()
    measured = {
        evaluation.name: evaluation
        for evaluation in evaluations(plan, project)
        if evaluation.made_by.name not in stale and evaluation.measured_by.name not in stale
    }
    for name in pending(project, measured.values()):
        yield Finding(
            subject=f"{measured[name].kind} {name}",
            problem=f"it is measured, but {model_name(name)} has no version of it with a gate decision",
            since=(measured[name].results / "metrics.json").stat().st_mtime,
            remedy="registers it and lets the gate decide, as `cclm promote` does",
            repair=lambda name=name: _promote(inspection, name),  # type: ignore[misc]
        )


def _aliases(registry: Registry, version: Version) -> list[str]:
    order = [CHAMPION, CANDIDATE, PREVIOUS]
    aliases = registry.model(version.model).aliases
    names = [alias for alias, number in aliases.items() if number == version.number]
    return sorted(names, key=lambda alias: order.index(alias) if alias in order else len(order))


def _remedy(aliases: list[str]) -> str:
    remedy = f"tags it {BROKEN}; files that the project still has can be registered again"
    if CHAMPION in aliases:
        remedy += f"; `{PREVIOUS}` becomes the champion if its files are complete; otherwise there is no champion"
    return remedy


def _promote(inspection: Inspection, name: str) -> str:
    decisions = promote_workspace(inspection.project, lambda _: None)  # promotes all; a second call does nothing
    return next((str(decision) for decision in decisions if decision.name == name), "registered it")
