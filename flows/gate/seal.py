"""The seal of a registered version: proof that this project registered it and that no file has changed since.

MLflow runs the code inside a registered model when it loads the model, and whoever can write to the registry can
register a model. So each version gets a seal when it is registered: an HMAC of the SHA-256 digests of all its files,
with a key that only this project has. `cclm serve`, the gate, `--accept` and `--rollback` copy the files of a version to
a private folder, check the seal, and load the copy. Without a valid seal nothing of it is loaded.

The key is `.cclm/registry.key`, or `CCLM_REGISTRY_KEY`. Clones that register models on the same MLflow server need the
same key.
"""

import hashlib
import hmac
import tempfile
from collections.abc import Callable
from pathlib import Path

from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.config import canonical_json
from flows import environment
from flows.gate.gate import Verdict
from flows.project import Project
from flows.tracking.client import Tracking, TrackingError, guarded

SEAL_TAG = "cclm.seal"
KEY_VARIABLE, KEY_FILE = "CCLM_REGISTRY_KEY", "registry.key"
DOWNLOAD_NOTE = "registered_model_meta"  # MLflow may write it next to the files that it downloads


class SealError(Exception):
    """A version was not registered by this project, or its files have changed."""


def seal(project: Project, model: str, composition: str, folder: Path) -> str:
    """The seal of a version: `KEY:MAC`, where KEY identifies the key without revealing it.

    Args:
        project: the project that has the key.
        model: the name of the registered model.
        composition: the digest of the composition, as the tag of the version has it.
        folder: all files of the version.
    """
    key = environment.secret(project, KEY_VARIABLE, KEY_FILE).encode("utf-8")
    content = canonical_json([model, composition, _digests(folder)]).encode("utf-8")
    return f"{_key_name(key)}:{hmac.new(key, content, hashlib.sha256).hexdigest()}"


def sealed_copy(tracking: Tracking, model: str, number: str, tags: tuple[str, str], folder: Path) -> None:
    """Copies the files of a version to `folder` and checks its seal. Nothing of it is loaded.

    Args:
        tracking: the connection to MLflow.
        model: the name of the registered model.
        number: of the version.
        tags: the digest of its composition and its seal, from its tags; "" if it has none.
        folder: is created; its parent must belong to this user alone.

    Raises:
        SealError: the seal is missing or does not match, or files are missing.
        TrackingError: MLflow does not answer, or another clone of the project registered the version.
    """
    composition, expected = tags
    name = f"{model} version {number}"
    again = "To register the composition again, run `cclm promote`"
    if not composition or not expected:
        raise SealError(f"{name} has no seal: this project did not register it, or did so before seals existed. {again}")
    key = environment.secret(tracking.project, KEY_VARIABLE, KEY_FILE).encode("utf-8")
    if expected.partition(":")[0] != _key_name(key):
        raise TrackingError(
            f"{name} was registered with another key, so its code is not trusted. If another clone of this project "
            f"registered it, copy .cclm/{KEY_FILE} from there or set {KEY_VARIABLE}"
        )
    with guarded():
        location = str(tracking.client.get_model_version_download_uri(model, number))
    download(tracking, location, folder)
    if not hmac.compare_digest(seal(tracking.project, model, composition, folder).encode(), expected.encode()):
        raise SealError(f"the files of {name} are not those that were registered. {again}")


def download(tracking: Tracking, location: str, folder: Path) -> None:
    """Copies all files at an artifact location into a new folder that only this user can read.

    Raises:
        SealError: there are none.
        TrackingError: the store does not answer.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder.mkdir(mode=0o700, parents=True)
    with guarded():
        store = get_artifact_repository(location, tracking_uri=tracking.uri)
        if not store.list_artifacts():
            raise SealError(f"its files are missing from {location}")
        store.download_artifacts("", str(folder))


def examined(
    tracking: Tracking, model: str, number: str, tags: tuple[str, str], probe: Callable[[str, str], Verdict]
) -> Verdict:
    """What `probe` says about a private copy of a version; a version without a valid seal is not loaded.

    Raises:
        TrackingError: MLflow does not answer, or another clone of the project registered the version.
    """
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / number
        try:
            sealed_copy(tracking, model, number, tags, folder)
        except SealError as error:
            return Verdict(False, f"it is not loaded: {error}")
        return probe(str(folder), tracking.uri)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if not path.is_dir() and path.name != DOWNLOAD_NOTE)
    if links := [path for path in folder.rglob("*") if path.is_symlink()]:
        raise SealError(f"{links[0].relative_to(folder)} must be a file, but it is a link")
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def _key_name(key: bytes) -> str:
    return hashlib.sha256(b"cclm registry key " + key).hexdigest()[:16]
