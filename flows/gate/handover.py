"""Changes of champion. Each is recorded as a whole before its first step, so that a later process can finish it.

A change takes several writes to the registry, and MLflow has no transactions. So the first write, a tag of the
registered model, holds the complete result; the steps that follow can be repeated; the last write deletes that tag. A
process that is killed in between leaves the tag, and `settle` continues from there.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cclm_core.runtime.config import canonical_json
from flows.gate.registry import CHAMPION, GATE_REASON_TAG, GATE_RESULT_TAG, PREVIOUS, ROLLED_BACK, Registry
from flows.tracking.client import TrackingError

HANDOVER_TAG = "cclm.handover"


@dataclass(frozen=True)
class Handover:
    """The result of a change of champion.

    Attributes:
        champion: the version that becomes champion; None: the model has no champion afterwards.
        replaced: the version that is champion before; None if there is no champion.
        previous: the version that has the alias `previous` afterwards; None if no version has it.
        tags: version -> tags that are written to it.
    """

    champion: str | None
    replaced: str | None
    previous: str | None
    tags: Mapping[str, Mapping[str, str]]


def hand_over(registry: Registry, model: str, handover: Handover) -> bool:
    """Carries out a change, unless the champion has changed since the decision; returns whether it did.

    Raises:
        TrackingError: the registry cannot be reached.
    """
    now = registry.model(model)
    if now.aliases.get(CHAMPION) != handover.replaced or HANDOVER_TAG in now.tags:
        return False
    written = canonical_json(asdict(handover))
    registry.set_tag(model, HANDOVER_TAG, written)
    if registry.model(model).tags.get(HANDOVER_TAG) != written:
        return False  # another clone of the project overwrote it at that moment; that change is finished instead
    _carry_out(registry, model, handover)
    return True


def settle(registry: Registry, model: str) -> None:
    """Finishes a change that was interrupted, and records it if somebody has moved the champion's alias.

    Raises:
        TrackingError: the registry cannot be reached, or its record of a change cannot be read.
    """
    now = registry.model(model)
    if HANDOVER_TAG in now.tags:
        _carry_out(registry, model, _read(model, now.tags[HANDOVER_TAG]))
        now = registry.model(model)
    champion = now.aliases.get(CHAMPION)
    for version in registry.search(model, GATE_RESULT_TAG, CHAMPION):
        if version.number != champion:
            # The gate must not promote at once what somebody has demoted in MLflow's own pages.
            where = f"to version {champion}" if champion else "away"
            reason = f"its alias {CHAMPION} was moved {where} outside of the gate"
            registry.set_tags(model, version.number, {GATE_REASON_TAG: reason, GATE_RESULT_TAG: ROLLED_BACK})


def _carry_out(registry: Registry, model: str, handover: Handover) -> None:
    registry.set_alias(model, PREVIOUS, handover.previous)
    registry.set_alias(model, CHAMPION, handover.champion)
    for number, tags in handover.tags.items():
        registry.set_tags(model, number, tags)
    registry.set_tag(model, HANDOVER_TAG, None)


def _read(model: str, written: str) -> Handover:
    try:
        return Handover(**json.loads(written))
    except (ValueError, TypeError):
        raise TrackingError(
            f"the tag {HANDOVER_TAG} of the registered model {model} must contain a change of champion, got "
            f"{written!r}. Check its aliases in MLflow, correct them and delete the tag."
        ) from None
