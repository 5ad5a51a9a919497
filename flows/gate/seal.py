"""The seal of a registered version: proof that this project registered it and that no file has changed since.

MLflow runs the code in a registered model when it loads the model, and anyone who can write to the registry can
register a model. So each version gets a seal when it is registered: an HMAC over the SHA-256 digests of all its
files, with a key that only this project has. `cclm serve`, the gate, `--accept` and `--rollback` copy the files of a
version to a private folder, check the seal, and load the copy. Without a valid seal, nothing of it is loaded.

The key is `.cclm/registry.key`, or `CCLM_REGISTRY_KEY`. Clones that register models on the same MLflow server need the
same key.
"""

import hashlib
import hmac
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from cclm_core.runtime.artifacts import file_digest
from cclm_core.runtime.config import canonical_json
from flows.gate.gate import Verdict
from flows.local_secrets import local_secret
from flows.project import Project
from flows.tracking.client import Tracking, TrackingError, guarded

DIGEST_TAG, SEAL_TAG = "cclm.digest", "cclm.seal"
KEY_VARIABLE, KEY_FILE = "CCLM_REGISTRY_KEY", "registry.key"
DOWNLOAD_NOTE = "registered_model_meta"  # MLflow may write it next to the files that it downloads


class SealError(Exception):
    """A version was not registered by this project, or its files have changed since."""


def seal(project: Project, model: str, composition: str, folder: Path) -> str:
    """The seal of a version: `KEY:MAC`, where KEY identifies the key without revealing it.

    Args:
        project: the project with the key.
        model: name of the registered model.
        composition: the digest of the composition, the tag `cclm.digest` of the version.
        folder: all files of the version.

    Raises:
        SealError: one of the files is a link.
    """
    key = local_secret(project, KEY_VARIABLE, KEY_FILE).encode("utf-8")
    content = canonical_json([model, composition, _digests(folder)]).encode("utf-8")
    return f"{_key_name(key)}:{hmac.new(key, content, hashlib.sha256).hexdigest()}"


def seal_problem(project: Project, tags: Mapping[str, str]) -> str:
    """Why a version with these tags cannot have a valid seal; "" if it may have one, which only its files tell."""
    expected = tags.get(SEAL_TAG, "")
    if not expected or DIGEST_TAG not in tags:
        return "it has no seal: another program registered it, or an earlier version of this project"
    key = local_secret(project, KEY_VARIABLE, KEY_FILE).encode("utf-8")
    if expected.partition(":")[0] == _key_name(key):
        return ""
    return (
        f"it was registered with another key; if another clone of this project did that, copy .cclm/{KEY_FILE} from "
        f"there or set {KEY_VARIABLE}"
    )


def sealed_copy(tracking: Tracking, model: str, number: str, tags: Mapping[str, str], folder: Path) -> None:
    """Copies the files of a version to a new folder and checks its seal. Nothing of it is loaded.

    Args:
        tracking: the connection to MLflow.
        model: name of the registered model.
        number: of the version.
        tags: of the version.
        folder: does not exist yet; only this user can access its parent.

    Raises:
        SealError: the seal is missing or does not match, or files are missing.
        TrackingError: MLflow cannot be reached.
    """
    if problem := seal_problem(tracking.project, tags):
        raise SealError(problem)
    with guarded():
        location = str(tracking.client.get_model_version_download_uri(model, number))
    download(tracking, location, folder)
    actual = seal(tracking.project, model, tags[DIGEST_TAG], folder)
    if not hmac.compare_digest(actual.encode("ascii"), tags[SEAL_TAG].encode("utf-8", "replace")):
        raise SealError("its files are not those that this project registered")


def download(tracking: Tracking, location: str, folder: Path) -> None:
    """Copies all files at an artifact location to a new folder.

    Raises:
        SealError: there are none.
        TrackingError: the store cannot be reached.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder.mkdir(mode=0o700, parents=True)
    with guarded():
        store = get_artifact_repository(location, tracking_uri=tracking.uri)
        if not store.list_artifacts():
            raise SealError(f"its files are missing from {location}")
        store.download_artifacts("", str(folder))


def check_sealed(
    tracking: Tracking, model: str, number: str, tags: Mapping[str, str], load_check: Callable[[str, str], Verdict]
) -> Verdict:
    """The result of `load_check` for a private copy of a version, which is not loaded if its seal is not valid.

    Raises:
        TrackingError: MLflow cannot be reached, or the version was registered with another key: then nothing is decided
            about it, because another clone may have registered it.
    """
    problem = seal_problem(tracking.project, tags)
    if problem and SEAL_TAG in tags:
        raise TrackingError(f"{model} version {number} is not loaded: {problem}")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / number
        try:
            sealed_copy(tracking, model, number, tags, folder)
        except SealError as error:
            return Verdict(False, f"it is not loaded: {error}")
        return load_check(str(folder), tracking.uri)


def _digests(folder: Path) -> dict[str, str]:
    paths = sorted(folder.rglob("*"))
    if link := next((path for path in paths if path.is_symlink()), None):
        raise SealError(f"{link.relative_to(folder)} must be a file, but it is a link")
    files = [path for path in paths if path.is_file() and path.name != DOWNLOAD_NOTE]
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def _key_name(key: bytes) -> str:
    return hashlib.sha256(b"cclm registry key " + key).hexdigest()[:16]
