"""Promotion: registers each composition that was evaluated, and lets the gate decide who is champion.

It is no DVC stage. DVC may restore a stage from its run cache without running it, and a registration that was
"restored" never happened: the files would say yes while the registry is empty, e.g. in a fresh clone or after
another tracking server was configured. So it asks the registry itself, keyed by the composition's digest, and may be
repeated at will: the flow runs it last, and `cclm promote` after a bare `dvc repro`.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from cclm_core.artifacts import MANIFEST, folder_digest, verify
from cclm_core.config import digest, load_yaml
from cclm_core.errors import ConfigError
from flows.follow import result_metrics
from flows.gate import PromotionConfig, Verdict, compare, probe
from flows.graph import Evaluation, evaluations, read_plan
from flows.parents import create_parent, newest_parent
from flows.paths import git_revision, state
from flows.registry import (
    CANDIDATE,
    CHAMPION,
    DIGEST_TAG,
    EVALUATION_TAG,
    GATE_KEY_TAG,
    GATE_REASON_TAG,
    GATE_RESULT_TAG,
    METRICS_TAG,
    PREVIOUS,
    Registry,
    Version,
    metrics_tag,
    model_name,
)
from flows.tracking import Tracking, connect, log_pipeline_files

BROKEN = "broken"


@dataclass(frozen=True)
class Decision:
    """What became of one composition.

    Attributes:
        created: whether a version was made for it now.
        result: `champion`; `candidate` if that is what it stays; `broken` if it does not load and predict.
        decided: whether the gate was asked now; else this is what it said before.
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
    root: Path, measured: Iterable[Evaluation], parent: str | None, say: Callable[[str], None], again: bool = False
) -> list[Decision]:
    """Registers what is not registered yet, and asks the gate where its answer may have changed.

    Args:
        again: try those that did not load before once more, though nothing changed.

    Raises:
        TrackingError: the registry cannot be reached.
    """
    tracking, config = connect(root), promotion_config(root)
    with FileLock(state(root, "locks") / "promote.lock"):
        gates = [_registered(root, tracking, evaluation, config, parent) for evaluation in measured]
        asked = [gate for gate in gates if not gate.said_before or (again and gate.said == BROKEN)]
        with ThreadPoolExecutor() as pool:  # each try is a process of its own
            tried = list(pool.map(lambda gate: probe(gate.version.uri, tracking.uri), asked))
        answers = dict(zip((gate.version.uri for gate in asked), tried, strict=True))
        decisions = [_decide(gate, answers.get(gate.version.uri)) for gate in gates]
    for decision in decisions:
        say(str(decision))
    return decisions


def pending(root: Path, measured: Iterable[Evaluation]) -> list[str]:
    """The compositions for which `promote_all` would do something: not registered, or not gated as things stand.

    Raises:
        TrackingError: the registry cannot be reached.
    """
    config, registry = promotion_config(root), Registry(connect(root))
    waiting = []
    for evaluation in measured:
        model = model_name(evaluation.name)
        version = registry.find(model, folder_digest(evaluation.composition))
        champion = registry.get(model, CHAMPION) if version else None
        if version is None or version.tags.get(GATE_KEY_TAG) != _gate_key(evaluation, champion, version, config):
            waiting.append(evaluation.name)
    return waiting


def accept(root: Path, composition: str) -> Decision:
    """Makes the candidate of a composition its champion by hand; it must still load and predict.

    Raises:
        ConfigError: there is no such candidate, it is untrained, or it does not load.
        TrackingError: the registry cannot be reached.
    """
    tracking = connect(root)
    registry, model = Registry(tracking), model_name(composition)
    with FileLock(state(root, "locks") / "promote.lock"):
        version = registry.get(model, CANDIDATE)
        if version is None:
            raise ConfigError(f"{composition} must have a candidate in the registry. Run `cclm promote` first.")
        if version.tags.get("cclm.untrained") == "true":
            raise ConfigError(f"{composition} is an untrained control; it can never be champion.")
        tried = probe(version.uri, tracking.uri)
        if not tried.passed:
            raise ConfigError(f"{composition} version {version.number} cannot be champion: {tried.reason}.")
        _crown(registry, version)
        reason = "accepted by hand"
        registry.set_tags(version, {GATE_RESULT_TAG: CHAMPION, GATE_REASON_TAG: reason})
    return Decision(composition, model, version.number, False, CHAMPION, reason, True)


def promote_workspace(root: Path, say: Callable[[str], None]) -> list[Decision]:
    """`cclm promote`: what a bare `dvc repro` has left to do, dvc.lock for its parent run included.

    Raises:
        ConfigError: nothing has been evaluated.
        TrackingError: the registry cannot be reached.
    """
    plan = read_plan(root)
    stale = plan.stale()
    measured = evaluations(plan, root)
    fresh = [one for one in measured if one.compose.name not in stale and one.evaluate.name not in stale]
    for one in measured:
        if one not in fresh:
            say(f"{one.name}: its files are older than what they were made from; run the pipeline first")
    if not measured:
        raise ConfigError("there must be an evaluated composition; there is none. Run `cclm run` or `dvc repro`.")
    tracking = connect(root)
    parent = newest_parent(tracking)
    if parent is None:
        parent = create_parent(tracking, root, "promote")
        tracking.set_status(parent, "FINISHED")
    log_pipeline_files(tracking, root, parent)
    return promote_all(root, fresh, parent, say, again=True)


def promotion_config(root: Path) -> PromotionConfig:
    """`params.yaml: promotion`.

    Raises:
        ConfigError: it is wrong.
    """
    path = root / "params.yaml"
    return PromotionConfig.parse(load_yaml(path).get("promotion"), f"{path.name}: promotion")


@dataclass(frozen=True)
class _Gate:
    """A registered composition before the gate."""

    registry: Registry
    evaluation: Evaluation
    config: PromotionConfig
    version: Version
    champion: Version | None
    created: bool

    @property
    def said_before(self) -> bool:
        """Whether the gate's last answer still stands: nothing that it depends on has changed."""
        return self.version.tags.get(GATE_KEY_TAG) == self.key(self.champion)

    @property
    def said(self) -> str | None:
        """The gate's last answer."""
        return self.version.tags.get(GATE_RESULT_TAG)

    def key(self, champion: Version | None) -> str:
        """Identifies everything that the gate's answer depends on, with this champion."""
        return _gate_key(self.evaluation, champion, self.version, self.config)


def _registered(
    root: Path, tracking: Tracking, evaluation: Evaluation, config: PromotionConfig, parent: str | None
) -> _Gate:
    registry, model = Registry(tracking), model_name(evaluation.name)
    value = verify(evaluation.composition, "composition")
    found = registry.find(model, value)
    version = found or _register(root, tracking, registry, evaluation, parent, value)
    current = registry.get(model, CANDIDATE)
    if current is None or current.number != version.number:
        registry.set_alias(version, CANDIDATE)
    return _Gate(registry, evaluation, config, version, registry.get(model, CHAMPION), found is None)


def _decide(gate: _Gate, tried: Verdict | None) -> Decision:
    """Asks the gate, where the model was tried just now, and writes down what it says."""
    version, registry, name = gate.version, gate.registry, gate.evaluation.name
    if tried is None:
        result, reason = version.tags[GATE_RESULT_TAG], version.tags[GATE_REASON_TAG]
        return Decision(name, version.model, version.number, gate.created, result, reason, False)
    registry.set_tags(version, _measured_tags(gate.evaluation))
    verdict = _compared(gate) if tried.passed else tried
    champion = gate.champion
    if verdict.passed:
        _crown(registry, version)
        champion = version
    crowned = champion is not None and champion.number == version.number
    result = CHAMPION if crowned else CANDIDATE if tried.passed else BROKEN
    registry.set_tags(version, {GATE_RESULT_TAG: result, GATE_REASON_TAG: verdict.reason})
    # Written last: a gate that was interrupted is asked again.
    registry.set_tags(version, {GATE_KEY_TAG: gate.key(champion)})
    return Decision(name, version.model, version.number, gate.created, result, verdict.reason, True)


def _compared(gate: _Gate) -> Verdict:
    evaluation, champion = gate.evaluation, gate.champion
    if evaluation.untrained:
        return Verdict(False, "an untrained control is never champion")
    if champion is None:
        command = f"cclm promote --accept {evaluation.name}"
        return Verdict(False, f"there is no champion to compare with; name the first one by hand: {command}")
    if champion.number == gate.version.number:
        return Verdict(False, champion.tags.get(GATE_REASON_TAG) or "it is the champion already")
    if champion.tags.get(EVALUATION_TAG) != _evaluation_digest(evaluation):
        return Verdict(False, "the champion was measured on other data or settings, so nothing can be compared")
    return compare(result_metrics(evaluation.results), champion.metrics, gate.config)


def _crown(registry: Registry, version: Version) -> None:
    champion = registry.get(version.model, CHAMPION)
    if champion is not None and champion.number == version.number:
        return
    if champion is not None:
        registry.set_alias(champion, PREVIOUS)
        registry.set_tags(champion, {GATE_RESULT_TAG: PREVIOUS})
    registry.set_alias(version, CHAMPION)


def _register(
    root: Path, tracking: Tracking, registry: Registry, evaluation: Evaluation, parent: str | None, value: str
) -> Version:
    run_tags = {"cclm.kind": "promotion", "dvc.stage": evaluation.compose.name}
    if parent:
        run_tags["mlflow.parentRunId"] = parent
    run_id = tracking.create_run(f"promote@{evaluation.name}", root, run_tags)
    commit, dirty = git_revision(root)
    tags = _measured_tags(evaluation) | {
        DIGEST_TAG: value,
        "cclm.untrained": str(evaluation.untrained).lower(),
        "git.commit": commit,
        "git.dirty": str(dirty).lower(),
        "dvc.stage": evaluation.compose.name,
    }
    metrics = result_metrics(evaluation.results)
    version = registry.register(run_id, model_name(evaluation.name), evaluation.composition, metrics, tags)
    tracking.set_status(run_id, "FINISHED")
    return version


def _measured_tags(evaluation: Evaluation) -> dict[str, str]:
    metrics = result_metrics(evaluation.results)
    return {METRICS_TAG: metrics_tag(metrics), EVALUATION_TAG: _evaluation_digest(evaluation)}


def _evaluation_digest(evaluation: Evaluation) -> str:
    """Identifies what a composition was measured on: results compare only where this is equal."""
    folders = [path for path in evaluation.data if (path / MANIFEST).is_file()]
    return digest([sorted(folder_digest(path) for path in folders), evaluation.evaluate.params])


def _gate_key(evaluation: Evaluation, champion: Version | None, version: Version, config: PromotionConfig) -> str:
    """Identifies everything that the gate's answer depends on."""
    return digest(
        [
            version.number,
            champion.number if champion else None,
            config.canonical(),
            folder_digest(evaluation.results),
            _evaluation_digest(evaluation),
        ]
    )
