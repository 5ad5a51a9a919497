"""Promotion: registers each measured composition and task, and asks the gate whether it becomes the champion.

Promotion is not a DVC stage, because DVC may restore a stage from its run cache without running it. In a new clone, or
with another tracking server, the "restored" registration would then be missing from the registry. Instead, promotion
looks up the digest of each model in the registry, and can be repeated at any time. The flow runs it last; after a
bare `dvc repro`, run `cclm promote`.
"""

import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from cclm_core.evaluation.metrics import read_metrics
from cclm_core.report.differences import measured_texts
from cclm_core.runtime.config import digest
from cclm_core.runtime.errors import ArtifactError, ConfigError
from flows.gate.candidates import (
    Candidate,
    evaluation_digest,
    find_candidate,
    register_candidate,
    results_are_outdated,
)
from flows.gate.comparison_views import save_comparison_views
from flows.gate.descriptions import GATE_REASON_TAG, GATE_RESULT_TAG
from flows.gate.gate import Verdict, compare, load_check, promotion_config
from flows.gate.handover import HANDOVER_TAG, Handover, hand_over, settle
from flows.gate.measured import explain_missing, missing_metrics
from flows.gate.model_pages import attach_pages, current_report
from flows.gate.registry import (
    BROKEN,
    CANDIDATE,
    CHAMPION,
    EVALUATION_TAG,
    GATE_KEY_TAG,
    PREVIOUS,
    Registry,
    Version,
    model_name,
)
from flows.gate.seal import check_sealed
from flows.gate.stored_results import fetch_results
from flows.gate.task_gate import compare_tasks
from flows.graph.evaluations import Evaluation, evaluations
from flows.graph.plan import read_plan
from flows.project import Project
from flows.tracking.client import Tracking, connect, log_pipeline_files
from flows.tracking.metrics import result_metrics
from flows.tracking.parents import create_parent, newest_parent


@dataclass(frozen=True)
class Decision:
    """The decision about a composition or a task.

    Attributes:
        name: name of the composition or the task.
        model: name of the registered model.
        version: version number of the registered model.
        created: whether this version was registered just now.
        result: `champion`; `candidate` if it did not become champion; `broken` if it does not load and predict;
            `rolled back` if a person rolled it back.
        reason: why, for people.
        decided: whether the decision was made just now; otherwise it is an earlier one that is still valid.
    """

    name: str
    model: str
    version: str
    created: bool
    result: str
    reason: str
    decided: bool

    def as_json(self) -> dict[str, Any]:
        """The decision as JSON-compatible values."""
        return asdict(self)

    def __str__(self) -> str:
        new = " (new)" if self.created else ""
        return f"{self.name}: {self.model} version {self.version}{new}, {self.result}: {self.reason}"


def promote_all(
    project: Project,
    measured: Iterable[Evaluation],
    parent: str | None,
    emit: Callable[[str], None],
    again: bool = False,
) -> list[Decision]:
    """Registers new compositions and tasks, and asks the gate about each whose last decision is no longer valid.

    An unfinished change of champion by an earlier process is finished first.

    Args:
        measured: the compositions and tasks with results.
        parent: MLflow run ID of the pipeline.
        emit: called with each decision as text.
        again: also check versions again that did not load before, even if nothing changed.

    Raises:
        IntegrityError: files of a model or its results are damaged.
        TrackingError: the registry cannot be reached. No champion has changed, or the next call finishes the change.
    """
    tracking, config, measured = connect(project), promotion_config(project), list(measured)
    with FileLock(promotion_lock(project)):
        for evaluation in measured:
            settle(Registry(tracking), model_name(evaluation.name))
        candidates = [register_candidate(project, tracking, evaluation, config, parent) for evaluation in measured]
        undecided = [
            candidate.version
            for candidate in candidates
            if not candidate.decided_before or (again and candidate.version.result == BROKEN)
        ]
        with ThreadPoolExecutor() as pool:  # each check runs in a process of its own
            verdicts = list(pool.map(lambda version: _check(tracking, version), undecided))
        loads = dict(zip((version.uri for version in undecided), verdicts, strict=True))
        decisions = [_decide(candidate, loads.get(candidate.version.uri), tracking) for candidate in candidates]
    for decision in decisions:
        emit(str(decision))
    return decisions


def pending(project: Project, measured: Iterable[Evaluation]) -> list[str]:
    """The names of the compositions and tasks that `promote_all` has to register or decide about.

    Raises:
        TrackingError: the registry cannot be reached.
    """
    config, registry = promotion_config(project), Registry(connect(project))
    waiting = []
    for evaluation in measured:
        candidate = find_candidate(registry, evaluation, config)
        unfinished = HANDOVER_TAG in registry.model(model_name(evaluation.name)).tags
        if candidate is None or unfinished or not candidate.decided_before:
            waiting.append(evaluation.name)
    return waiting


def promote_workspace(project: Project, emit: Callable[[str], None]) -> list[Decision]:
    """`cclm promote`: promotes all up-to-date models, and logs the final dvc.lock to the pipeline's run.

    Raises:
        ConfigError: nothing was measured.
        TrackingError: the registry cannot be reached.
    """
    plan = read_plan(project)
    stale = plan.stale()
    measured = evaluations(plan, project)
    up_to_date = []
    for evaluation in measured:
        if evaluation.made_by.name in stale or evaluation.measured_by.name in stale:
            reason = f"the {evaluation.kind} or its results are stale"
            emit(f"{evaluation.name}: skipped, because {reason}. Run `cclm run` first.")
        else:
            up_to_date.append(evaluation)
    if not measured:
        raise ConfigError("no composition or task with results found. Run `cclm run` or `dvc repro`.")
    tracking = connect(project)
    parent = newest_parent(tracking)
    if parent is None:
        parent = create_parent(tracking, project, "promote")
        tracking.set_status(parent, "FINISHED")
    log_pipeline_files(tracking, project, parent)
    decisions = promote_all(project, up_to_date, parent, emit, again=True)
    attach_pages(tracking, plan, current_report(project, plan), [decision.as_json() for decision in decisions])
    save_comparison_views(tracking, plan)
    return decisions


def promotion_lock(project: Project) -> Path:
    """The lock file that processes of this clone hold while they change the registry."""
    return project.state("locks") / "promote.lock"


def _check(tracking: Tracking, version: Version) -> Verdict:
    return check_sealed(tracking, version.model, version.number, version.tags, load_check)


def _decide(candidate: Candidate, loads: Verdict | None, tracking: Tracking) -> Decision:
    """Decides about a candidate and writes the decision to the registry.

    Args:
        loads: the result of the load check; None if the last decision is still valid.
    """
    registry, name, registered = candidate.registry, candidate.evaluation.name, candidate.version
    if loads is None:
        reason = registered.tags.get(GATE_REASON_TAG, "")
        return Decision(name, registered.model, registered.number, candidate.created, registered.result, reason, False)
    version = candidate.with_current_metrics()
    verdict = _compare_with_champion(candidate, tracking) if loads.passed else loads
    key = {GATE_KEY_TAG: candidate.key(version if verdict.passed or candidate.is_champion else None)}
    result = CHAMPION if candidate.is_champion else CANDIDATE if loads.passed else BROKEN
    reason = verdict.reason
    if verdict.passed and _make_champion(candidate, version, reason, key):
        result = CHAMPION
    elif candidate.is_champion and not loads.passed:
        # The tags of the champion stay as they are, because the cause may be this machine.
        reason = f"it is the champion, but {reason}; `cclm promote --rollback {name}` restores the previous champion"
    else:
        if verdict.passed:
            reason = f"the champion changed during the comparison ({reason}); the next `cclm run` compares again"
        tags = {GATE_RESULT_TAG: result, GATE_REASON_TAG: reason}
        # The key is written last, so that an interrupted decision is made again.
        lasts = verdict.lasts and not verdict.passed
        registry.set_tags(version.model, version.number, tags | (key if lasts else {}))
    return Decision(name, version.model, version.number, candidate.created, result, reason, True)


def _compare_with_champion(candidate: Candidate, tracking: Tracking) -> Verdict:
    evaluation, champion = candidate.evaluation, candidate.champion
    if evaluation.untrained:
        return Verdict(False, "it is an untrained control, which cannot be champion")
    if results_are_outdated(evaluation):
        return Verdict(False, f"its results belong to another {evaluation.kind}; run `cclm run` to measure this one")
    accept = f"`cclm promote --accept {evaluation.name}`"
    first = f"there is no champion to compare with; to make this version the first one, run {accept}"
    missing = () if evaluation.is_task else missing_metrics(candidate.config, result_metrics(evaluation.results))
    if missing:
        reason = f"the gate can never promote a version: {explain_missing(missing, evaluation)}"
        return Verdict(False, f"{reason}. Also, {first}" if champion is None else reason)
    if champion is None:
        return Verdict(False, first)
    if candidate.is_champion:
        return Verdict(False, champion.tags.get(GATE_REASON_TAG) or "it is already the champion")
    if evaluation.is_task:
        verdict = _compare_tasks(candidate, champion, tracking)
    else:
        verdict = _compare_compositions(candidate, champion)
    if not verdict.passed:
        return verdict
    # A champion that no longer loads cannot serve as a baseline, nor as `previous` for a rollback.
    champion_loads = _check(tracking, champion)
    if champion_loads.passed:
        return verdict
    return Verdict(
        False,
        f"champion version {champion.number} no longer loads ({champion_loads.reason}); restore its files, or run "
        f"{accept} to replace it ({verdict.reason})",
        lasts=False,
    )


def _compare_compositions(candidate: Candidate, champion: Version) -> Verdict:
    evaluation = candidate.evaluation
    if champion.tags.get(EVALUATION_TAG) != evaluation_digest(evaluation):
        return Verdict(
            False,
            f"it cannot be compared: champion version {champion.number} was measured on other data or settings; to "
            f"make this version the champion anyway, run `cclm promote --accept {evaluation.name}`",
        )
    directions = {name: metric.better for name, metric in read_metrics(evaluation.results).items()}
    return compare(result_metrics(evaluation.results), champion.metrics, candidate.config, directions)


def _compare_tasks(candidate: Candidate, champion: Version, tracking: Tracking) -> Verdict:
    evaluation = candidate.evaluation
    remedy = f"to make this version the champion anyway, run `cclm promote --accept {evaluation.name}`"
    with tempfile.TemporaryDirectory() as parent:
        try:
            former = fetch_results(tracking, champion, Path(parent) / "results")
            texts = measured_texts(former)
        except ArtifactError as error:
            reason = (
                f"it cannot be compared with champion version {champion.number}: {str(error).rstrip('.')}; {remedy}"
            )
            return Verdict(False, reason, lasts=False)
        if champion.tags.get(EVALUATION_TAG) != digest(texts):
            reason = f"the tags of champion version {champion.number} do not belong to its stored results; {remedy}"
            return Verdict(False, reason)
        return compare_tasks(evaluation.results, former, candidate.config.tasks, f"; {remedy}")


def _make_champion(candidate: Candidate, version: Version, reason: str, key: dict[str, str]) -> bool:
    champion = candidate.champion
    assert champion is not None
    tags = {version.number: {GATE_RESULT_TAG: CHAMPION, GATE_REASON_TAG: reason} | key}
    tags[champion.number] = {GATE_RESULT_TAG: PREVIOUS, GATE_REASON_TAG: f"replaced by version {version.number}"}
    handover = Handover(version.number, champion.number, champion.number, tags)
    return hand_over(candidate.registry, version.model, handover)
