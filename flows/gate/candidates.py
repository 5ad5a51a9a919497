"""Candidates: registered compositions, with the data that they were evaluated on and what they were made from."""

from dataclasses import dataclass

from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.runtime.artifacts import MANIFEST, folder_digest, read_json, verify
from cclm_core.runtime.config import digest
from flows.gate.lineage import registration_tags
from flows.gate.registry import (
    CANDIDATE,
    CHAMPION,
    DIGEST_TAG,
    EVALUATION_TAG,
    GATE_KEY_TAG,
    METRICS_TAG,
    ROLLED_BACK,
    Registry,
    Version,
    metrics_tag,
    model_name,
)
from flows.graph.evaluations import Evaluation
from flows.project import Project
from flows.tracking.client import Tracking
from flows.tracking.metrics import result_metrics
from flows.tracking.open_runs import closed


@dataclass(frozen=True)
class Candidate:
    """A registered composition before the gate.

    Attributes:
        created: whether a version was made for it now.
    """

    registry: Registry
    evaluation: Evaluation
    config: PromotionConfig
    version: Version
    champion: Version | None
    created: bool

    @property
    def is_champion(self) -> bool:
        """Whether it is the champion already."""
        return self.champion is not None and self.champion.number == self.version.number

    @property
    def decided_before(self) -> bool:
        """Whether the gate's last answer is valid: nothing it depends on changed, or the version was rolled back."""
        if self.version.result == ROLLED_BACK and not self.is_champion:
            return True
        return self.version.tags.get(GATE_KEY_TAG) == self.key()

    def key(self, champion: Version | None = None) -> str:
        """Identifies everything that the gate's answer depends on; `champion` replaces the present champion."""
        best = champion or self.champion
        against = [best.number, best.tags.get(METRICS_TAG), best.tags.get(EVALUATION_TAG)] if best else None
        rules, results = self.config.canonical(), folder_digest(self.evaluation.results)
        return digest([self.version.number, against, rules, results, evaluation_digest(self.evaluation)])

    def measured(self) -> Version:
        """The version with the metrics of the evaluation in its tags, which are written if they differ.

        The tag of the evaluation is empty until all metrics are written, so that a process that is killed in between
        does not leave the metrics of one evaluation with the name of another.
        """
        tags = measured_tags(self.evaluation)
        if {name: self.version.tags.get(name) for name in tags} != tags:
            self.registry.set_tags(self.version.model, self.version.number, {EVALUATION_TAG: ""})
            self.registry.set_tags(self.version.model, self.version.number, tags)
        return Version(self.version.model, self.version.number, {**self.version.tags, **tags})


def known(registry: Registry, evaluation: Evaluation, config: PromotionConfig) -> Candidate | None:
    """The composition as it is registered; None if it is not."""
    model = model_name(evaluation.name)
    version = registry.find(model, folder_digest(evaluation.composition))
    if version is None:
        return None
    return Candidate(registry, evaluation, config, version, registry.get(model, CHAMPION), False)


def registered(
    project: Project, tracking: Tracking, evaluation: Evaluation, config: PromotionConfig, parent: str | None
) -> Candidate:
    """The composition with the alias `candidate`; it is registered if it was not.

    Raises:
        IntegrityError: its files, or those of its results, are damaged.
        TrackingError: the registry cannot be reached.
    """
    registry, model = Registry(tracking), model_name(evaluation.name)
    value = verify(evaluation.composition, "composition")
    verify(evaluation.results, "evaluation")
    found = registry.find(model, value)
    version = found or _register(project, tracking, registry, evaluation, parent, value)
    aliases = registry.model(model).aliases
    if aliases.get(CANDIDATE) != version.number:
        registry.set_alias(model, CANDIDATE, version.number)
    return Candidate(registry, evaluation, config, version, registry.get(model, CHAMPION), found is None)


def measured_another(evaluation: Evaluation) -> bool:
    """Whether evaluation.json names another composition than the one in the project."""
    about = evaluation.results / "evaluation.json"
    named = read_json(about).get("composition") if about.is_file() else None
    return named is not None and named != folder_digest(evaluation.composition)


def measured_tags(evaluation: Evaluation) -> dict[str, str]:
    """Tags with the metrics of an evaluation and the digest of what they were measured on."""
    metrics = result_metrics(evaluation.results)
    return {METRICS_TAG: metrics_tag(metrics), EVALUATION_TAG: evaluation_digest(evaluation)}


def evaluation_digest(evaluation: Evaluation) -> str:
    """Identifies the data and settings of an evaluation: results can be compared only if this is equal."""
    folders = [path for path in evaluation.data if (path / MANIFEST).is_file()]
    return digest([sorted(folder_digest(path) for path in folders), evaluation.evaluate.params])


def _register(
    project: Project, tracking: Tracking, registry: Registry, evaluation: Evaluation, parent: str | None, value: str
) -> Version:
    run_tags = {"cclm.kind": "promotion", "dvc.stage": evaluation.compose.name}
    if parent:
        run_tags["mlflow.parentRunId"] = parent
    run_id = tracking.create_run(f"promote@{evaluation.name}", run_tags)
    commit, dirty = project.git_revision()
    tags = measured_tags(evaluation) | {
        DIGEST_TAG: value,
        "cclm.untrained": str(evaluation.untrained).lower(),
        "git.commit": commit,
        "git.dirty": str(dirty).lower(),
        "dvc.stage": evaluation.compose.name,
        **registration_tags(project, tracking, evaluation),
    }
    metrics = result_metrics(evaluation.results)
    version = registry.register(run_id, model_name(evaluation.name), evaluation.composition, metrics, tags)
    closed(project, "mlflow", run_id)  # MLflow has ended the run as it was left
    return version
