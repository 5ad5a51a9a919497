"""Candidates: compositions and tasks in the model registry, tagged with their metrics, data and origins."""

from dataclasses import dataclass

from cclm_core.evaluation.metrics import read_metrics
from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.report.differences import measured_texts
from cclm_core.runtime.artifacts import MANIFEST, folder_digest, read_json, verify
from cclm_core.runtime.config import canonical_json, digest
from cclm_core.runtime.files import folder_bytes
from flows.gate.descriptions import FIGURES_TAG, KIND_TAG, SIZE_TAG
from flows.gate.lineage import registration_tags
from flows.gate.registry import (
    CANDIDATE,
    CHAMPION,
    EVALUATION_TAG,
    GATE_KEY_TAG,
    METRICS_TAG,
    RESULTS_TAG,
    ROLLED_BACK,
    Registry,
    Version,
    metrics_tag,
    model_name,
)
from flows.gate.seal import DIGEST_TAG
from flows.gate.stored_results import store_results, stored_digest
from flows.graph.evaluations import Evaluation
from flows.project import Project
from flows.tracking.client import Tracking
from flows.tracking.metrics import result_metrics
from flows.tracking.open_runs import record_closed


@dataclass(frozen=True)
class Candidate:
    """A registered model and the champion that it competes with.

    Attributes:
        registry: the model registry.
        evaluation: the composition or task and its results in the project.
        config: the rules of the gate.
        version: its registered version.
        champion: the current champion; None if the model has no champion.
        created: whether the version was registered just now.
    """

    registry: Registry
    evaluation: Evaluation
    config: PromotionConfig
    version: Version
    champion: Version | None
    created: bool

    @property
    def is_champion(self) -> bool:
        """Whether the candidate is already the champion."""
        return self.champion is not None and self.champion.number == self.version.number

    @property
    def decided_before(self) -> bool:
        """Whether the last decision is still valid: its inputs are unchanged, or the version was rolled back."""
        if self.version.result == ROLLED_BACK and not self.is_champion:
            return True
        return self.version.tags.get(GATE_KEY_TAG) == self.key()

    def key(self, champion: Version | None = None) -> str:
        """A digest of everything that the gate's decision depends on.

        Args:
            champion: the champion to assume (default: the current one).
        """
        rival = champion or self.champion
        compared = METRICS_TAG, EVALUATION_TAG, RESULTS_TAG
        rival_facts = [rival.number, *(rival.tags.get(name) for name in compared)] if rival else None
        rules, results = self.config.canonical(), folder_digest(self.evaluation.results)
        return digest([self.version.number, rival_facts, rules, results, evaluation_digest(self.evaluation)])

    def with_current_metrics(self) -> Version:
        """Updates the version's tags and stored results with the current ones, and returns the updated version.

        The evaluation tag stays empty until the metrics are written. Otherwise a process killed in between would leave
        the metrics of one evaluation labeled as those of another.
        """
        tags, version = evaluation_tags(self.evaluation), self.version
        is_stored = stored_digest(version) == folder_digest(self.evaluation.results)
        if not is_stored or {name: version.tags.get(name) for name in tags} != tags:
            self.registry.set_tags(version.model, version.number, {EVALUATION_TAG: ""})
            if not is_stored:
                tags = {RESULTS_TAG: self._store_results()} | tags
            self.registry.set_tags(version.model, version.number, tags)
        return Version(version.model, version.number, {**version.tags, **tags})

    def _store_results(self) -> str:
        tracking, stage = self.registry.tracking, self.evaluation.measured_by.name
        run_tags = {"cclm.kind": "promotion", "dvc.stage": stage}
        run_id = tracking.create_run(f"promote@{self.evaluation.name}", run_tags)
        value = store_results(tracking, run_id, self.evaluation.results)
        tracking.set_status(run_id, "FINISHED")
        return value


def find_candidate(registry: Registry, evaluation: Evaluation, config: PromotionConfig) -> Candidate | None:
    """The candidate of a composition or task; None if it is not registered."""
    model = model_name(evaluation.name)
    version = registry.find(model, folder_digest(evaluation.model))
    if version is None:
        return None
    return Candidate(registry, evaluation, config, version, registry.get(model, CHAMPION), False)


def register_candidate(
    project: Project, tracking: Tracking, evaluation: Evaluation, config: PromotionConfig, parent: str | None
) -> Candidate:
    """Registers a composition or task unless it is registered already, and gives its version the alias `candidate`.

    Args:
        parent: MLflow run ID of the pipeline.

    Raises:
        IntegrityError: files of the model or its results are damaged.
        TrackingError: the registry cannot be reached.
    """
    registry, model = Registry(tracking), model_name(evaluation.name)
    model_digest = verify(evaluation.model, evaluation.kind)
    verify(evaluation.results, "evaluation")
    existing = registry.find(model, model_digest)
    version = existing or _register(project, tracking, registry, evaluation, parent, model_digest)
    aliases = registry.model(model).aliases
    if aliases.get(CANDIDATE) != version.number:
        registry.set_alias(model, CANDIDATE, version.number)
    return Candidate(registry, evaluation, config, version, registry.get(model, CHAMPION), existing is None)


def results_are_outdated(evaluation: Evaluation) -> bool:
    """Whether the results belong to another model than the one in the project, according to evaluation.json."""
    path = evaluation.results / "evaluation.json"
    evaluated = read_json(path).get(evaluation.kind) if path.is_file() else None
    return evaluated is not None and evaluated != folder_digest(evaluation.model)


def evaluation_tags(evaluation: Evaluation) -> dict[str, str]:
    """Tags with the metrics of an evaluation, the main ones with intervals, and the digest of its data and settings."""
    metrics = result_metrics(evaluation.results)
    figures = {
        name: {"value": metric.value, "interval": metric.interval, "better": metric.better}
        for name, metric in read_metrics(evaluation.results).items()
        if metric.headline and metric.better is not None
    }
    return {
        METRICS_TAG: metrics_tag(metrics),
        FIGURES_TAG: canonical_json(figures),
        EVALUATION_TAG: evaluation_digest(evaluation),
    }


def evaluation_digest(evaluation: Evaluation) -> str:
    """A digest of the data and settings of an evaluation. Results are comparable only if it is equal.

    For a task, it is that of the test texts: its settings and its training texts may change. It is "" if the results do
    not name the texts.
    """
    if evaluation.is_task:
        texts = measured_texts(evaluation.results)
        return digest(texts) if texts else ""
    folders = [path for path in evaluation.data if (path / MANIFEST).is_file()]
    return digest([sorted(folder_digest(path) for path in folders), evaluation.measured_by.params])


def _register(
    project: Project,
    tracking: Tracking,
    registry: Registry,
    evaluation: Evaluation,
    parent: str | None,
    model_digest: str,
) -> Version:
    run_tags = {"cclm.kind": "promotion", "dvc.stage": evaluation.made_by.name}
    if parent:
        run_tags["mlflow.parentRunId"] = parent
    run_id = tracking.create_run(f"promote@{evaluation.name}", run_tags)
    commit, dirty = project.git_revision()
    tags = evaluation_tags(evaluation) | {
        DIGEST_TAG: model_digest,
        KIND_TAG: evaluation.kind,
        SIZE_TAG: str(folder_bytes(evaluation.model)),
        RESULTS_TAG: store_results(tracking, run_id, evaluation.results),
        "cclm.untrained": str(evaluation.untrained).lower(),
        "git.commit": commit,
        "git.dirty": str(dirty).lower(),
        "dvc.stage": evaluation.made_by.name,
        **registration_tags(project, tracking, evaluation),
    }
    metrics = result_metrics(evaluation.results)
    version = registry.register(run_id, model_name(evaluation.name), evaluation.model, metrics, tags, evaluation.kind)
    record_closed(project, "mlflow", run_id)  # registering has ended the run
    return version
