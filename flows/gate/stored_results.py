"""The results of registered versions: stored with a run in MLflow, so that a later candidate can be compared with them.

The tag `cclm.results` of a version is `RUN/DIGEST`: the run with the files, and the digest of their manifest. Nothing
is used unless every file matches it.
"""

from pathlib import Path

from cclm_core.runtime.artifacts import MANIFEST, folder_digest, verify
from cclm_core.runtime.errors import ArtifactError, CclmError
from flows.gate.registry import RESULTS_TAG, Version
from flows.gate.seal import DOWNLOAD_NOTE, SealError, download
from flows.tracking.client import Tracking, guarded

_FOLDER = "results"


def store_results(tracking: Tracking, run_id: str, folder: Path) -> str:
    """Logs published results as artifacts of a run, and returns the value of the tag `cclm.results`.

    Raises:
        TrackingError: MLflow cannot be reached.
    """
    digest = folder_digest(folder)
    with guarded():
        tracking.client.log_artifacts(run_id, str(folder), artifact_path=f"{_FOLDER}/{digest}")
    return f"{run_id}/{digest}"


def stored_digest(version: Version) -> str:
    """The digest of the stored results of a version; "" if none are stored."""
    return version.tags.get(RESULTS_TAG, "").partition("/")[2]


def fetch_results(tracking: Tracking, version: Version, folder: Path) -> Path:
    """Copies the stored results of a version to a new folder, checks every file, and returns the folder.

    Raises:
        ArtifactError: no results are stored, or files are missing or altered.
        TrackingError: MLflow cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    run_id, _, digest = version.tags.get(RESULTS_TAG, "").partition("/")
    if not run_id or not digest:
        raise ArtifactError(f"no results are stored for {version.model} version {version.number}.")
    remedy = "Register the model again with `cclm promote`, or accept another version."
    with guarded():
        try:
            location = str(tracking.client.get_run(run_id).info.artifact_uri)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ArtifactError(
                f"the results of {version.model} version {version.number} are missing: MLflow has no run {run_id}. "
                f"{remedy}"
            ) from None
    try:
        download(tracking, f"{location.rstrip('/')}/{_FOLDER}/{digest}", folder)
        (folder / DOWNLOAD_NOTE).unlink(missing_ok=True)
        if not (folder / MANIFEST).is_file() or verify(folder, "evaluation") != digest:
            raise ArtifactError(f"{folder} has other results.")
    except (SealError, CclmError) as error:
        raise ArtifactError(
            f"the stored results of {version.model} version {version.number} are missing or altered ({error}) {remedy}"
        ) from None
    return folder
