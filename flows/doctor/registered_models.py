"""Registered model versions whose files are gone or are not those that were registered."""

import json
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cclm_core.runtime.artifacts import MANIFEST, file_digest, verify
from cclm_core.runtime.errors import CclmError
from flows.doctor.finding import Finding, Project
from flows.registry import BROKEN, CANDIDATE, CHAMPION, DIGEST_TAG, GATE_REASON_TAG, GATE_RESULT_TAG, PREVIOUS
from flows.tracking import Tracking, guarded

BROKEN_TAG, WAS_TAG = "cclm.broken", "cclm.was"


def check(project: Project) -> Iterator[Finding]:
    """Yields a finding for each version that is not known to be broken yet.

    Local files are all read; of a remote store's, the names are listed and the manifest alone is read.

    Raises:
        UncheckedError: MLflow does not answer.
    """
    tracking = project.tracking
    if tracking is None:
        return
    with guarded():
        versions = [one for one in tracking.client.search_model_versions() if DIGEST_TAG in one.tags]
    for version in versions:
        if not (reason := _damage(tracking, version)):
            continue
        aliases = _aliases(tracking, version)
        yield Finding(
            subject=f"{version.name} version {version.version}" + (f" ({', '.join(aliases)})" if aliases else ""),
            problem=reason,
            since=version.creation_timestamp / 1000,
            remedy=_remedy(aliases),
            repair=lambda one=version, reason=reason: _retire(tracking, one, reason),  # type: ignore[misc]
        )


def _remedy(aliases: list[str]) -> str:
    remedy = f"tags it {BROKEN}; its files in models/compositions, if they are there, can then be registered anew"
    if CHAMPION in aliases:
        remedy += f"; the champion falls back to `{PREVIOUS}`, if that is whole, else there is none"
    return remedy


def _retire(tracking: Tracking, version: Any, reason: str) -> str:
    client, name, number = tracking.client, version.name, version.version
    aliases, said = _aliases(tracking, version), f"tagged it {BROKEN}"
    with guarded():
        for alias in aliases:
            client.delete_registered_model_alias(name, alias)
            said += f"; took `{alias}` off it"
        if CHAMPION in aliases:
            said += f"; {_fall_back(tracking, name)}"
        tags = {BROKEN_TAG: reason, WAS_TAG: version.tags[DIGEST_TAG], GATE_RESULT_TAG: BROKEN, GATE_REASON_TAG: reason}
        for tag, value in tags.items():
            client.set_model_version_tag(name, number, tag, value)
        # Versions are found by this tag: without it the composition counts as not registered.
        client.delete_model_version_tag(name, number, DIGEST_TAG)
    return said


def _fall_back(tracking: Tracking, model: str) -> str:
    client = tracking.client
    number = client.get_registered_model(model).aliases.get(PREVIOUS)
    if number is None:
        return f"THE CHAMPION OF {model} IS GONE and there is no `{PREVIOUS}`: name another by `cclm promote --accept`"
    previous = client.get_model_version(model, number)
    if damage := _damage(tracking, previous):
        return f"THE CHAMPION OF {model} IS GONE and so is `{PREVIOUS}` ({damage}): there is no champion"
    client.set_registered_model_alias(model, CHAMPION, number)
    client.delete_registered_model_alias(model, PREVIOUS)
    client.set_model_version_tag(model, number, GATE_RESULT_TAG, CHAMPION)
    return f"THE CHAMPION OF {model} IS NOW version {number} AGAIN, its predecessor"


def _aliases(tracking: Tracking, version: Any) -> list[str]:
    with guarded():
        aliases = tracking.client.get_registered_model(version.name).aliases
    order = [CHAMPION, CANDIDATE, PREVIOUS]
    found = [alias for alias, number in aliases.items() if str(number) == str(version.version)]
    return sorted(found, key=lambda alias: order.index(alias) if alias in order else len(order))


def _damage(tracking: Tracking, version: Any) -> str:
    """What is wrong with a version's files; "" when they are whole."""
    if DIGEST_TAG not in version.tags:
        return str(version.tags.get(BROKEN_TAG, "it does not say which composition it holds"))
    with guarded():
        place = str(tracking.client.get_model_version_download_uri(version.name, version.version))
    parsed = urllib.parse.urlparse(place)
    if parsed.scheme in ("file", ""):
        return _local_damage(Path(urllib.request.url2pathname(parsed.path)), version.tags[DIGEST_TAG])
    return _remote_damage(tracking, place, version.tags[DIGEST_TAG])


def _local_damage(place: Path, digest: str) -> str:
    manifests = list(place.glob(f"artifacts/*/{MANIFEST}"))
    if len(manifests) != 1 or not (place / "MLmodel").is_file():
        return f"its files are gone from {place}"
    try:
        found = verify(manifests[0].parent, "composition")
    except CclmError as error:
        return f"its files are damaged: {str(error).partition(';')[0]}"
    return "" if found == digest else "its files are those of another composition"


def _remote_damage(tracking: Tracking, place: str, digest: str) -> str:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with guarded(), tempfile.TemporaryDirectory() as folder:
        store = get_artifact_repository(place, tracking_uri=tracking.uri)
        names = set(_names(store, "artifacts"))
        manifests = [name for name in names if name.count("/") == 2 and name.endswith(f"/{MANIFEST}")]
        if len(manifests) != 1:
            return f"its files are gone from {place}"
        copy = Path(store.download_artifacts(manifests[0], folder))
        if file_digest(copy) != digest:
            return "its manifest is that of another composition, or damaged"
        promised = json.loads(copy.read_text(encoding="utf-8"))["files"]
    parent = manifests[0].rpartition("/")[0]
    gone = sorted(name for name in promised if f"{parent}/{name}" not in names)
    return f"files are gone from {place}: {', '.join(gone[:3])}" if gone else ""


def _names(store: Any, folder: str) -> Iterator[str]:
    for one in store.list_artifacts(folder):
        yield from _names(store, one.path) if one.is_dir else [one.path]
