"""Promotion: registers each composition that was evaluated, and lets the gate decide who is champion.

It is no DVC stage. DVC may restore a stage from its run cache without running it, and a registration that was
"restored" never happened: the files would exist while the registry is empty, e.g. in a fresh clone or after
another tracking server was configured. So it asks the registry itself, keyed by the composition's digest, and may be
repeated at will: the flow runs it last, and `cclm promote` after a bare `dvc repro`.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from cclm_core.evaluation.metrics import read_metrics
from cclm_core.runtime.errors import ConfigError
from flows.gate.candidates import Candidate, evaluation_digest, known, measured_another, registered
from flows.gate.gate import Verdict, compare, probe, promotion_config
from flows.gate.handover import HANDOVER_TAG, Handover, hand_over, settle
from flows.gate.registry import (
    BROKEN,
    CANDIDATE,
    CHAMPION,
    EVALUATION_TAG,
    GATE_KEY_TAG,
    GATE_REASON_TAG,
    GATE_RESULT_TAG,
    PREVIOUS,
    Registry,
    Version,
    model_name,
)
from flows.graph.evaluations import Evaluation, evaluations
from flows.graph.plan import read_plan
from flows.project import Project
from flows.tracking.client import connect, log_pipeline_files
from flows.tracking.metrics import result_metrics
from flows.tracking.parents import create_parent, newest_parent


@dataclass(frozen=True)
class Decision:
    """What became of one composition.

    Attributes:
        created: whether a version was made for it now.
        result: `champion`; `candidate` if that is what it stays; `broken` if it does not load and predict;
            `rolled back` if a person took it down.
        decided: whether the gate decided now; otherwise this is its earlier decision.
    """

    composition: str
    model: str
    version: str
    created: bool
    result: str
    reason: str
    decided: bool

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        how = "registered" if self.created else "found"
        return f"{self.composition}: {self.model} version {self.version} {how}, {self.result}: {self.reason}"


def promote_all(
    project: Project,
    measured: Iterable[Evaluation],
    parent: str | None,
    emit: Callable[[str], None],
    again: bool = False,
) -> list[Decision]:
    """Registers what is not registered yet, and asks the gate if its answer may have changed.

    A change of champion that an earlier process left unfinished is finished first.

    Args:
        again: try those that did not load before once more, though nothing changed.

    Raises:
        IntegrityError: files of a composition or of its results are damaged.
        TrackingError: the registry cannot be reached; then no champion changes, unless the change was under way: the
            next call finishes it.
    """
    tracking, config, measured = connect(project), promotion_config(project), list(measured)
    with FileLock(promotion_lock(project)):
        for evaluation in measured:
            settle(Registry(tracking), model_name(evaluation.name))
        candidates = [registered(project, tracking, evaluation, config, parent) for evaluation in measured]
        asked = [one for one in candidates if not one.decided_before or (again and one.version.result == BROKEN)]
        with ThreadPoolExecutor() as pool:  # each try is a process of its own
            tried = list(pool.map(lambda one: probe(one.version.uri, tracking.uri), asked))
        answers = dict(zip((one.version.uri for one in asked), tried, strict=True))
        decisions = [_decide(one, answers.get(one.version.uri), tracking.uri) for one in candidates]
    for decision in decisions:
        emit(str(decision))
    return decisions


def pending(project: Project, measured: Iterable[Evaluation]) -> list[str]:
    """The compositions for which `promote_all` would do something: not registered, or the gate must decide (again).

    Raises:
        TrackingError: the registry cannot be reached.
    """
    config, registry = promotion_config(project), Registry(connect(project))
    waiting = []
    for evaluation in measured:
        candidate = known(registry, evaluation, config)
        unfinished = HANDOVER_TAG in registry.model(model_name(evaluation.name)).tags
        if candidate is None or unfinished or not candidate.decided_before:
            waiting.append(evaluation.name)
    return waiting


def promote_workspace(project: Project, emit: Callable[[str], None]) -> list[Decision]:
    """`cclm promote`: what a bare `dvc repro` has left to do, dvc.lock for its parent run included.

    Raises:
        ConfigError: nothing has been evaluated.
        TrackingError: the registry cannot be reached.
    """
    plan = read_plan(project)
    stale = plan.stale()
    measured = evaluations(plan, project)
    fresh = [one for one in measured if one.compose.name not in stale and one.evaluate.name not in stale]
    for one in measured:
        if one not in fresh:
            emit(f"{one.name}: its files are older than what they were made from; run the pipeline first")
    if not measured:
        raise ConfigError("no evaluated composition found. Run `cclm run` or `dvc repro`.")
    tracking = connect(project)
    parent = newest_parent(tracking)
    if parent is None:
        parent = create_parent(tracking, project, "promote")
        tracking.set_status(parent, "FINISHED")
    log_pipeline_files(tracking, project, parent)
    return promote_all(project, fresh, parent, emit, again=True)


def promotion_lock(project: Project) -> Path:
    """The lock that a process of this clone holds while it changes the registry."""
    return project.state("locks") / "promote.lock"


def _decide(candidate: Candidate, tried: Verdict | None, tracking_uri: str) -> Decision:
    """Asks the gate if the model was tried just now, and records its decision."""
    registry, name, old = candidate.registry, candidate.evaluation.name, candidate.version
    if tried is None:
        reason = old.tags.get(GATE_REASON_TAG, "")
        return Decision(name, old.model, old.number, candidate.created, old.result, reason, False)
    version = candidate.measured()
    verdict = _compared(candidate, tracking_uri) if tried.passed else tried
    key = {GATE_KEY_TAG: candidate.key(version if verdict.passed or candidate.is_champion else None)}
    result = CHAMPION if candidate.is_champion else CANDIDATE if tried.passed else BROKEN
    reason = verdict.reason
    if verdict.passed and _crown(candidate, version, reason, key):
        result = CHAMPION
    elif candidate.is_champion and not tried.passed:
        # Its tags keep what made it champion: it may be the machine that fails.
        reason = f"it is the champion, but {reason}; `cclm promote --rollback {name}` returns to the one before"
    else:
        if verdict.passed:
            reason = f"the champion changed while this one was compared ({reason}); the next run asks the gate again"
        tags = {GATE_RESULT_TAG: result, GATE_REASON_TAG: reason}
        # The key is written last: a gate that was interrupted is asked again.
        lasts = verdict.lasts and not verdict.passed
        registry.set_tags(version.model, version.number, tags | (key if lasts else {}))
    return Decision(name, version.model, version.number, candidate.created, result, reason, True)


def _compared(candidate: Candidate, tracking_uri: str) -> Verdict:
    evaluation, champion = candidate.evaluation, candidate.champion
    if evaluation.untrained:
        return Verdict(False, "an untrained control is never champion")
    if measured_another(evaluation):
        return Verdict(False, "its results are those of another composition; run the pipeline, then `cclm promote`")
    if champion is None:
        command = f"cclm promote --accept {evaluation.name}"
        return Verdict(False, f"there is no champion to compare with; name the first one: {command}")
    if candidate.is_champion:
        return Verdict(False, champion.tags.get(GATE_REASON_TAG) or "it is the champion already")
    if champion.tags.get(EVALUATION_TAG) != evaluation_digest(evaluation):
        return Verdict(False, "the champion was measured on other data or settings, so nothing can be compared")
    directions = {name: metric.better for name, metric in read_metrics(evaluation.results).items()}
    verdict = compare(result_metrics(evaluation.results), champion.metrics, candidate.config, directions)
    if not verdict.passed:
        return verdict
    # It would be what a rollback returns to, and figures of what nobody can read any more are no baseline.
    readable = probe(champion.uri, tracking_uri)
    if readable.passed:
        return verdict
    command = f"cclm promote --accept {evaluation.name}"
    return Verdict(
        False,
        f"the champion, version {champion.number}, cannot be read any more ({readable.reason}); restore its files, or "
        f"decide yourself: {command} ({verdict.reason})",
        lasts=False,
    )


def _crown(candidate: Candidate, version: Version, reason: str, key: dict[str, str]) -> bool:
    champion = candidate.champion
    assert champion is not None
    tags = {version.number: {GATE_RESULT_TAG: CHAMPION, GATE_REASON_TAG: reason} | key}
    tags[champion.number] = {GATE_RESULT_TAG: PREVIOUS, GATE_REASON_TAG: f"replaced by version {version.number}"}
    handover = Handover(version.number, champion.number, champion.number, tags)
    return hand_over(candidate.registry, version.model, handover)
