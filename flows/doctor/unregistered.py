"""Compositions that are measured and up to date, and not registered, or not put before the gate as things stand."""

from collections.abc import Iterator

from flows.doctor.finding import Finding, Project
from flows.graph import evaluations, read_plan
from flows.promote import pending, promote_workspace
from flows.registry import model_name


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each; while a run works, that is its business.

    Raises:
        UncheckedError: MLflow does not answer.
    """
    if project.working or project.tracking is None:
        return
    plan = read_plan(project.root)
    stale = plan.stale()
    measured = {
        one.name: one
        for one in evaluations(plan, project.root)
        if one.compose.name not in stale and one.evaluate.name not in stale
    }
    for name in pending(project.root, measured.values()):
        yield Finding(
            subject=f"composition {name}",
            problem=f"it is measured, and {model_name(name)} has no version of it that the gate has judged",
            since=(measured[name].results / "metrics.json").stat().st_mtime,
            remedy="registers it and puts it before the gate, as `cclm promote` does",
            repair=lambda name=name: _promote(project, name),  # type: ignore[misc]
        )


def _promote(project: Project, name: str) -> str:
    decisions = promote_workspace(project.root, lambda _: None)  # all of them at once; asked again it does nothing
    return next((str(one) for one in decisions if one.composition == name), "registered it")
