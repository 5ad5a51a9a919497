"""Manual decisions that bypass the gate: accept a champion, or roll back to the previous one."""

from filelock import FileLock

from cclm_core.runtime.errors import ConfigError
from flows.gate.descriptions import GATE_REASON_TAG, GATE_RESULT_TAG, KIND_TAG
from flows.gate.gate import load_check, promotion_config
from flows.gate.handover import Handover, hand_over, settle
from flows.gate.measured import missing_metrics
from flows.gate.promote import Decision, promotion_lock
from flows.gate.registry import CANDIDATE, CHAMPION, PREVIOUS, ROLLED_BACK, Registry, Version, model_name
from flows.gate.seal import check_sealed
from flows.graph.evaluations import TASK
from flows.messages import warn
from flows.project import Project
from flows.tracking.client import Tracking, connect

ROLLED_FROM_TAG = "gate.rolled_back_from"
ACCEPTED = "accepted by a person"


def accept(project: Project, name: str) -> Decision:
    """Makes the candidate of a composition or task its champion without the gate, provided that it loads and predicts.

    Raises:
        ConfigError: there is no candidate, it is an untrained control, it does not load, or its seal is not valid.
        TrackingError: the registry cannot be reached.
    """
    tracking = connect(project)
    registry, model = Registry(tracking), model_name(name)
    with FileLock(promotion_lock(project)):
        settle(registry, model)
        version = registry.get(model, CANDIDATE)
        if version is None:
            raise ConfigError(f"no candidate of {name} found in the registry. Run `cclm promote` first.")
        if version.tags.get("cclm.untrained") == "true":
            raise ConfigError(f"{name} is an untrained control, which cannot be champion. Choose another composition.")
        _require_loadable(version, tracking, name)
        aliases = registry.model(model).aliases
        replaced, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
        tags = {version.number: {GATE_RESULT_TAG: CHAMPION, GATE_REASON_TAG: ACCEPTED}}
        if replaced is not None and replaced != version.number:
            tags[replaced] = {GATE_RESULT_TAG: PREVIOUS, GATE_REASON_TAG: f"replaced by version {version.number}"}
            previous = replaced
        _hand_over(registry, model, Handover(version.number, replaced, previous, tags))
    is_task = version.tags.get(KIND_TAG) == TASK
    if not is_task and (missing := missing_metrics(promotion_config(project), version.metrics or {})):
        warn(
            f"the gate can never replace this champion: the metrics of {name} have no {', '.join(missing)}. "
            "Remove them from promotion.metrics in params.yaml."
        )
    return Decision(name, model, version.number, False, CHAMPION, ACCEPTED, True)


def roll_back(project: Project, name: str, why: str) -> Decision:
    """Makes the `previous` version of a composition or task champion again, provided that it loads and predicts.

    The replaced champion is tagged with the reason, and the gate never promotes it again; only `accept` does.
    Afterwards, no version has the alias `previous`, so a second call changes nothing and returns the first decision.

    Args:
        why: what is wrong with the champion. Stored in its tags.

    Raises:
        ConfigError: there is no previous champion, or it does not load. Nothing has changed.
        TrackingError: the registry cannot be reached.
    """
    tracking = connect(project)
    registry, model = Registry(tracking), model_name(name)
    with FileLock(promotion_lock(project)):
        settle(registry, model)
        champion, previous = registry.get(model, CHAMPION), registry.get(model, PREVIOUS)
        if champion is None:
            raise ConfigError(
                f"{model} has no champion to roll back. `cclm promote --accept {name}` makes its candidate the "
                "champion."
            )
        if previous is None or previous.number == champion.number:
            if ROLLED_FROM_TAG in champion.tags:
                reason = champion.tags.get(GATE_REASON_TAG, "")
                return Decision(name, model, champion.number, False, CHAMPION, reason, False)
            raise ConfigError(
                f"{model} has no previous champion to roll back to: version {champion.number} is its first champion or "
                f"the result of a rollback. `cclm promote --accept {name}` makes its candidate the champion."
            )
        _require_loadable(previous, tracking, name)
        reason = f"rolled back from version {champion.number}: {why}"
        rolled_back_reason = f"rolled back to version {previous.number}: {why}"
        tags = {
            previous.number: {
                GATE_RESULT_TAG: CHAMPION,
                GATE_REASON_TAG: reason,
                ROLLED_FROM_TAG: champion.number,
            },
            champion.number: {GATE_RESULT_TAG: ROLLED_BACK, GATE_REASON_TAG: rolled_back_reason},
        }
        _hand_over(registry, model, Handover(previous.number, champion.number, None, tags))
    return Decision(name, model, previous.number, False, CHAMPION, reason, True)


def _require_loadable(version: Version, tracking: Tracking, name: str) -> None:
    verdict = check_sealed(tracking, version.model, version.number, version.tags, load_check)
    if not verdict.passed:
        raise ConfigError(f"{name} version {version.number} cannot be champion: {verdict.reason}.")


def _hand_over(registry: Registry, model: str, handover: Handover) -> None:
    if not hand_over(registry, model, handover):
        raise ConfigError(
            f"another process changed the champion of {model} at the same time. Check the champion, then try again."
        )
