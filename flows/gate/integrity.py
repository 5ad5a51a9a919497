"""Finds damaged files of registered versions, and retires these versions."""

import json
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from cclm_core.runtime.artifacts import MANIFEST, file_digest, verify
from cclm_core.runtime.errors import CclmError
from flows.gate.descriptions import GATE_REASON_TAG, GATE_RESULT_TAG
from flows.gate.handover import Handover, hand_over, settle
from flows.gate.promote import promotion_lock
from flows.gate.registry import BROKEN, CHAMPION, PREVIOUS, Registry, Version
from flows.gate.seal import DIGEST_TAG, SEAL_TAG, SealError, seal, seal_problem
from flows.graph.evaluations import MODEL_KINDS
from flows.project import Project
from flows.tracking.client import Tracking, TrackingError, guarded

BROKEN_TAG, WAS_TAG = "cclm.broken", "cclm.was"


def find_damage(tracking: Tracking, version: Version) -> str:
    """Describes the damage to the files of a version; "" if they are intact.

    Local files are read completely. In a remote store, only the manifest is read, and the other files are listed.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    if DIGEST_TAG not in version.tags:
        return version.tags.get(BROKEN_TAG, f"its tag {DIGEST_TAG} is missing")
    with guarded():
        location = str(tracking.client.get_model_version_download_uri(version.model, version.number))
    parsed = urllib.parse.urlparse(location)
    if parsed.scheme in ("file", ""):
        folder = Path(urllib.request.url2pathname(parsed.path))
        return _local_damage(folder, version.tags[DIGEST_TAG]) or _changed_code(tracking.project, version, folder)
    return _remote_damage(tracking, location, version.tags[DIGEST_TAG])


def retire(project: Project, tracking: Tracking, version: Version, reason: str) -> str:
    """Removes all aliases from a damaged version and tags it `broken`.

    If the version is the champion, the `previous` version becomes champion again. If that is missing or damaged too,
    the model has no champion afterwards. Like promotion, this holds the promotion lock and survives a crash.

    Args:
        reason: the damage, see `find_damage`.

    Returns:
        A message about what was done.

    Raises:
        TrackingError: MLflow cannot be reached, or another clone changed the champion at the same time.
    """
    registry, model, number = Registry(tracking), version.model, version.number
    tags = {
        BROKEN_TAG: reason,
        WAS_TAG: version.tags[DIGEST_TAG],
        GATE_RESULT_TAG: BROKEN,
        GATE_REASON_TAG: reason,
    }
    with FileLock(promotion_lock(project)):
        settle(registry, model)
        message = f"tagged it {BROKEN}"
        if registry.model(model).aliases.get(CHAMPION) == number:
            message += f"; {_replace_champion(registry, model, number, tags)}"
        for alias, holder in registry.model(model).aliases.items():
            if holder == number:
                registry.set_alias(model, alias, None)
                message += f"; removed the alias `{alias}` from it"
        registry.set_tags(model, number, tags)
        # Without this tag, the version is not found by its digest, so the same files can be registered again.
        registry.remove_tag(model, number, DIGEST_TAG)
    return message


def _replace_champion(registry: Registry, model: str, number: str, tags: dict[str, str]) -> str:
    previous = registry.get(model, PREVIOUS)
    problem = find_damage(registry.tracking, previous) if previous else ""
    if previous is None or problem:
        handover = Handover(None, number, previous.number if previous else None, {number: tags})
        cause = f"`{PREVIOUS}` is damaged too ({problem})" if previous else f"there is no `{PREVIOUS}` version"
        name = model.removeprefix("cclm-")
        message = f"{model} NOW HAS NO CHAMPION: {cause}. Choose one with `cclm promote --accept {name}`"
    else:
        reason = f"champion again, because version {number}, which replaced it, is damaged"
        champion_tags = {GATE_RESULT_TAG: CHAMPION, GATE_REASON_TAG: reason}
        handover = Handover(previous.number, number, None, {previous.number: champion_tags, number: tags})
        message = f"THE CHAMPION OF {model} IS NOW version {previous.number} AGAIN, the one before version {number}"
    if not hand_over(registry, model, handover):
        raise TrackingError(f"another process changed the champion of {model} at the same time. Repeat the repair.")
    return message


def _local_damage(folder: Path, digest: str) -> str:
    manifests = list(folder.glob(f"artifacts/*/{MANIFEST}"))
    if len(manifests) != 1 or not (folder / "MLmodel").is_file():
        return f"its files are missing from {folder}"
    try:
        actual = verify(manifests[0].parent, *MODEL_KINDS, remedy="")  # `retire` is the remedy
    except CclmError as error:
        return f"its files are damaged: {str(error).rstrip(' .')}"
    return "" if actual == digest else "its files belong to another model"


def _changed_code(project: Project, version: Version, folder: Path) -> str:
    """Describes a change to the other files of the version, such as the code; "" if nothing changed."""
    if seal_problem(project, version.tags):
        return ""  # `cclm doctor` reports it, without a repair
    try:
        actual = seal(project, version.model, version.tags[DIGEST_TAG], folder)
    except SealError as error:
        return f"its files are not those that were registered: {error}"
    return "" if actual == version.tags[SEAL_TAG] else "its files are not those that were registered"


def _remote_damage(tracking: Tracking, location: str, digest: str) -> str:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with guarded(), tempfile.TemporaryDirectory() as folder:
        store = get_artifact_repository(location, tracking_uri=tracking.uri)
        names = set(_names(store, "artifacts"))
        manifests = [name for name in names if name.count("/") == 2 and name.endswith(f"/{MANIFEST}")]
        if len(manifests) != 1:
            return f"its files are missing from {location}"
        copy = Path(store.download_artifacts(manifests[0], folder))
        if file_digest(copy) != digest:
            return "its manifest is damaged, or belongs to another model"
        listed = json.loads(copy.read_text(encoding="utf-8"))["files"]
    parent = manifests[0].rpartition("/")[0]
    missing = sorted(name for name in listed if f"{parent}/{name}" not in names)
    return f"files are missing from {location}: {', '.join(missing[:3])}" if missing else ""


def _names(store: Any, folder: str) -> Iterator[str]:
    for entry in store.list_artifacts(folder):
        yield from _names(store, entry.path) if entry.is_dir else [entry.path]
