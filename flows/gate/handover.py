"""Changes of champion that survive a crash.

A change takes several writes to the registry, and MLflow has no transactions. So the first write is a tag of the
registered model with the complete result, the following writes are idempotent, and the last write deletes the tag. If a
process is killed in between, the tag remains, and `settle` finishes the change.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.readers import parse_json
from flows.gate.descriptions import GATE_REASON_TAG, GATE_RESULT_TAG
from flows.gate.registry import CHAMPION, PREVIOUS, ROLLED_BACK, Registry
from flows.tracking.client import TrackingError

HANDOVER_TAG = "cclm.handover"


@dataclass(frozen=True)
class Handover:
    """A change of champion, by version numbers.

    Attributes:
        champion: the new champion; None if the model will have no champion.
        replaced: the current champion; None if the model has no champion.
        previous: the version that gets the alias `previous`; None to delete the alias.
        tags: version -> tags to write.
    """

    champion: str | None
    replaced: str | None
    previous: str | None
    tags: Mapping[str, Mapping[str, str]]


def hand_over(registry: Registry, model: str, handover: Handover) -> bool:
    """Changes the champion, unless it is no longer `handover.replaced`; returns whether it was changed.

    Raises:
        TrackingError: the registry cannot be reached.
    """
    current = registry.model(model)
    if current.aliases.get(CHAMPION) != handover.replaced or HANDOVER_TAG in current.tags:
        return False
    record = canonical_json(asdict(handover))
    registry.set_tag(model, HANDOVER_TAG, record)
    if registry.model(model).tags.get(HANDOVER_TAG) != record:
        return False  # another clone has overwritten the tag, so its change wins
    _carry_out(registry, model, handover)
    return True


def settle(registry: Registry, model: str) -> None:
    """Finishes an interrupted change, and tags a version as rolled back if somebody moved its `champion` alias.

    Raises:
        TrackingError: the registry cannot be reached, or the tag of an interrupted change is invalid.
    """
    current = registry.model(model)
    if HANDOVER_TAG in current.tags:
        _carry_out(registry, model, _parse(model, current.tags[HANDOVER_TAG]))
        current = registry.model(model)
    champion = current.aliases.get(CHAMPION)
    for version in registry.search(model, GATE_RESULT_TAG, CHAMPION):
        if version.number != champion:
            # Without the tag, the gate would promote this version again right away.
            change = f"moved to version {champion}" if champion else "deleted"
            reason = f"the alias `{CHAMPION}` was {change} outside the gate, e.g. in MLflow's UI"
            registry.set_tags(model, version.number, {GATE_REASON_TAG: reason, GATE_RESULT_TAG: ROLLED_BACK})


def _carry_out(registry: Registry, model: str, handover: Handover) -> None:
    registry.set_alias(model, PREVIOUS, handover.previous)
    registry.set_alias(model, CHAMPION, handover.champion)
    for number, tags in handover.tags.items():
        registry.set_tags(model, number, tags)
    registry.set_tag(model, HANDOVER_TAG, None)


def _parse(model: str, record: str) -> Handover:
    try:
        return Handover(**parse_json(record, HANDOVER_TAG))
    except (ArtifactError, TypeError):
        raise TrackingError(
            f"the tag {HANDOVER_TAG} of the registered model {model} is not a valid change of champion: {record!r}. "
            "Check the aliases of the model in MLflow, correct them if needed, and delete the tag."
        ) from None
