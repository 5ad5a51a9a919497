"""Whether the files of a registered version are still those that were registered, and retiring a damaged version."""

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
from flows.gate.handover import Handover, hand_over, settle
from flows.gate.promote import promotion_lock
from flows.gate.registry import (
    BROKEN,
    CHAMPION,
    DIGEST_TAG,
    GATE_REASON_TAG,
    GATE_RESULT_TAG,
    PREVIOUS,
    Registry,
    Version,
)
from flows.project import Project
from flows.tracking.client import Tracking, TrackingError, guarded

BROKEN_TAG, WAS_TAG = "cclm.broken", "cclm.was"


def damage(tracking: Tracking, version: Version) -> str:
    """What is wrong with a version's files; "" if they are complete.

    Every byte of local files is read. In a remote store the names are listed and only the manifest is read.

    Raises:
        TrackingError: MLflow does not answer.
    """
    if DIGEST_TAG not in version.tags:
        return version.tags.get(BROKEN_TAG, "it has no digest of its composition")
    with guarded():
        location = str(tracking.client.get_model_version_download_uri(version.model, version.number))
    parsed = urllib.parse.urlparse(location)
    if parsed.scheme in ("file", ""):
        return _local_damage(Path(urllib.request.url2pathname(parsed.path)), version.tags[DIGEST_TAG])
    return _remote_damage(tracking, location, version.tags[DIGEST_TAG])


def retire(project: Project, tracking: Tracking, version: Version, reason: str) -> str:
    """Takes the aliases off a damaged version and tags it `broken`; returns what was done.

    If it is the champion, `previous` becomes the champion again if its files are complete; otherwise the model has no
    champion afterwards. The champion changes as it does in promotion: under the promotion lock, and by a handover that
    a later process can finish.

    Raises:
        TrackingError: MLflow does not answer, or another clone changed the champion at the same moment.
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
        # Versions are found by this tag: without it the composition counts as not registered.
        registry.remove_tag(model, number, DIGEST_TAG)
    return message


def _replace_champion(registry: Registry, model: str, number: str, tags: dict[str, str]) -> str:
    previous = registry.get(model, PREVIOUS)
    problem = damage(registry.tracking, previous) if previous else ""
    if previous is None or problem:
        handover = Handover(None, number, previous.number if previous else None, {number: tags})
        which = f"`{PREVIOUS}` is damaged as well ({problem})" if previous else f"there is no `{PREVIOUS}`"
        message = f"THE CHAMPION OF {model} IS GONE and {which}: name another with `cclm promote --accept`"
    else:
        reason = f"version {number}, the champion after it, is damaged"
        crowned = {GATE_RESULT_TAG: CHAMPION, GATE_REASON_TAG: reason}
        handover = Handover(previous.number, number, None, {previous.number: crowned, number: tags})
        message = f"THE CHAMPION OF {model} IS NOW version {previous.number} AGAIN, its predecessor"
    if not hand_over(registry, model, handover):
        raise TrackingError(f"another process changed the champion of {model} at the same moment. Repeat the repair.")
    return message


def _local_damage(folder: Path, digest: str) -> str:
    manifests = list(folder.glob(f"artifacts/*/{MANIFEST}"))
    if len(manifests) != 1 or not (folder / "MLmodel").is_file():
        return f"its files are missing from {folder}"
    try:
        present = verify(manifests[0].parent, "composition")
    except CclmError as error:
        return f"its files are damaged: {str(error).partition(';')[0]}"
    return "" if present == digest else "its files are those of another composition"


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
            return "its manifest is that of another composition, or damaged"
        promised = json.loads(copy.read_text(encoding="utf-8"))["files"]
    parent = manifests[0].rpartition("/")[0]
    missing = sorted(name for name in promised if f"{parent}/{name}" not in names)
    return f"files are missing from {location}: {', '.join(missing[:3])}" if missing else ""


def _names(store: Any, folder: str) -> Iterator[str]:
    for entry in store.list_artifacts(folder):
        yield from _names(store, entry.path) if entry.is_dir else [entry.path]
