"""`cclm promote --import-from`: copies the champions of another MLflow registry, such as `mlflow.db`, to this one.

Of each model without a champion here, the champion and the version before it are copied. Before anything changes, the
files of all of them are copied to a private folder and their seals checked, see `flows.gate.seal`. A copy has the same
digest; its tags, metrics, results and aliases are those of the original. So a second call changes nothing, and a call
after an interruption finishes it.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.readers import parse_json
from flows import environment
from flows.gate.descriptions import GATE_REASON_TAG, GATE_RESULT_TAG, KIND_TAG
from flows.gate.gate import load_check
from flows.gate.handover import Handover, hand_over, settle
from flows.gate.lineage import LINEAGE_TAG
from flows.gate.promote import Decision, promotion_lock
from flows.gate.registry import CHAMPION, GATE_KEY_TAG, PREVIOUS, RESULTS_TAG, Registry, Version
from flows.gate.seal import DIGEST_TAG, SEAL_TAG, SealError, check_sealed, sealed_copy
from flows.gate.served import published_in
from flows.gate.stored_results import fetch_results, store_results
from flows.graph.evaluations import COMPOSITION, MODEL_KINDS
from flows.project import Project
from flows.tracking.client import Tracking, connect, guarded
from flows.tracking.open_runs import record_closed

SOURCE_TAG = "cclm.imported"
"""Of an imported version: `NUMBER of REGISTRY`."""

_ALIASES = (PREVIOUS, CHAMPION)  # the champion last, so that it is the newer version
_RUN_TAGS = tuple(f"cclm.{kind}.run" for kind in (*MODEL_KINDS, "evaluation"))


@dataclass(frozen=True)
class Original:
    """A version of the other registry, and a checked copy of its files.

    Attributes:
        version: the version.
        alias: its alias.
        files: a copy of its files.
        results: a copy of its stored results; None if none are stored.
    """

    version: Version
    alias: str
    files: Path
    results: Path | None


def import_champions(project: Project, source: str, emit: Callable[[str], None]) -> list[Decision]:
    """Copies the champions of another registry. A champion that is here already, the same or another one, stays.

    Args:
        project: the project that registered them: their seals are checked with its key.
        source: the other registry: a URI of MLflow, or the path of a SQLite file.
        emit: called with each decision as text.

    Raises:
        ConfigError: the source does not exist, is the current registry or has no champions; a version was changed or
            registered with another key, and nothing was imported; or a version does not load.
        ArtifactError: the stored results of a version are missing or were changed. Nothing was imported.
        TrackingError: a registry cannot be reached.
    """
    tracking, former = connect(project), _open(project, source)
    here, there = Registry(tracking), Registry(former)
    with FileLock(promotion_lock(project)), tempfile.TemporaryDirectory(dir=project.state("importing")) as parent:
        names = sorted({version.model for version, _ in there.all_versions()})
        models = [name for name in names if CHAMPION in there.model(name).aliases]
        if not models:
            raise ConfigError(f"{source} has no champions. `cclm promote` registers what this project has measured.")
        originals = {}
        for name in models:
            settle(here, name)
            if CHAMPION not in here.model(name).aliases:
                originals[name] = _copied(there, name, Path(parent) / name)
        decisions = []
        for name in models:
            if name in originals:
                decisions.append(_imported(project, here, name, originals[name], source))
            else:
                decisions.append(_kept(here, there, name))
            emit(str(decisions[-1]))
    return decisions


def _open(project: Project, source: str) -> Tracking:
    """The connection to the other registry."""
    uri = source if "://" in source else environment.sqlite_uri(project.root / source)
    if uri.startswith("sqlite:"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.is_file():  # MLflow would create it
            raise ConfigError(f"{path} not found. Give the file or the URI of the registry that has the champions.")
    if uri == connect(project).uri:
        raise ConfigError(
            f"{source} is the registry in use. Start the other one first, for example with `make up`, or set "
            "MLFLOW_TRACKING_URI to it."
        )
    with guarded():
        from mlflow.tracking import MlflowClient

        return Tracking(MlflowClient(uri, registry_uri=uri), "", uri, project)


def _copied(registry: Registry, model: str, parent: Path) -> list[Original]:
    """The previous champion, if there is one, and the champion, with verified copies of their files."""
    originals = []
    for alias in _ALIASES:
        version = registry.get(model, alias)
        if version is None:
            continue
        folder = parent / version.number
        try:
            sealed_copy(registry.tracking, model, version.number, version.tags, folder / "files")
        except SealError as error:
            raise ConfigError(f"nothing was imported: {model} version {version.number}: {error}.") from None
        stored = RESULTS_TAG in version.tags
        results = fetch_results(registry.tracking, version, folder / "results") if stored else None
        originals.append(Original(version, alias, folder / "files", results))
    return originals


def _imported(project: Project, here: Registry, model: str, originals: list[Original], source: str) -> Decision:
    """Registers the versions and hands over the aliases."""
    numbers, tags, created = {}, {}, False
    for original in originals:
        version = here.find(model, original.version.tags[DIGEST_TAG])
        created = version is None
        version = version or _register(project, here, original, source)
        verdict = check_sealed(here.tracking, model, version.number, version.tags, load_check)
        if not verdict.passed:
            raise ConfigError(f"{model} version {original.version.number} is not imported: {verdict.reason}.")
        reason = original.version.tags.get(GATE_REASON_TAG, "")
        reason = f"imported from {source}, version {original.version.number}" + (f": {reason}" if reason else "")
        numbers[original.alias] = version.number
        tags[version.number] = {GATE_RESULT_TAG: original.alias, GATE_REASON_TAG: reason}
    champion = numbers[CHAMPION]
    if not hand_over(here, model, Handover(champion, None, numbers.get(PREVIOUS), tags)):
        raise ConfigError(f"another process chose a champion of {model} at the same time. Check it, then try again.")
    reason = tags[champion][GATE_REASON_TAG]
    return Decision(model.removeprefix("cclm-"), model, champion, created, CHAMPION, reason, True)


def _register(project: Project, here: Registry, original: Original, source: str) -> Version:
    former, tracking = original.version, here.tracking
    kind = former.tags.get(KIND_TAG, COMPOSITION)
    folder = published_in(original.files)
    if verify(folder, kind) != former.tags[DIGEST_TAG]:
        raise ArtifactError(f"the files of {former.model} version {former.number} belong to another model.")
    run_tags = {"cclm.kind": "promotion", "dvc.stage": former.tags.get("dvc.stage", "")}
    run_id = tracking.create_run(f"import@{former.model.removeprefix('cclm-')}", run_tags)
    dropped = {SEAL_TAG, GATE_KEY_TAG, RESULTS_TAG, GATE_RESULT_TAG, GATE_REASON_TAG, *_RUN_TAGS}
    tags = {name: value for name, value in former.tags.items() if name not in dropped}
    tags |= {SOURCE_TAG: f"{former.number} of {source}"} | _lineage(tags)
    if original.results is not None:
        tags[RESULTS_TAG] = store_results(tracking, run_id, original.results)
    version = here.register(run_id, former.model, folder, former.metrics or {}, tags, kind)
    record_closed(project, "mlflow", run_id)  # registering has ended the run
    return version


def _lineage(tags: dict[str, str]) -> dict[str, str]:
    """The lineage without runs, which the current server does not have."""
    if LINEAGE_TAG not in tags:
        return {}
    origins = parse_json(tags[LINEAGE_TAG], LINEAGE_TAG)
    return {LINEAGE_TAG: canonical_json({name: {"digest": origin["digest"]} for name, origin in origins.items()})}


def _kept(here: Registry, there: Registry, model: str) -> Decision:
    """The decision to leave a model that has a champion as it is."""
    champion, other = here.get(model, CHAMPION), there.get(model, CHAMPION)
    assert champion is not None and other is not None
    is_same = champion.tags.get(DIGEST_TAG) == other.tags.get(DIGEST_TAG)
    reason = (
        "it is already here" if is_same else f"it stays; version {other.number} of the other registry is another model"
    )
    return Decision(model.removeprefix("cclm-"), model, champion.number, False, CHAMPION, reason, False)
