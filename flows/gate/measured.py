"""Whether the evaluation of this corpus has the metrics that the gate compares.

A corpus without entities has no `entity_f1_clean`, so a gate that names it could never promote a version.
"""

from collections.abc import Iterable, Mapping

from cclm_core.evaluation.metrics import EVALUATION_FILE
from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ConfigError
from flows.gate.gate import promotion_config
from flows.graph.evaluations import Evaluation, evaluations
from flows.graph.plan import Plan
from flows.project import Project
from flows.tracking.metrics import result_metrics

_DETAILS = ("contribution/", "documents/", "labels/")


def missing_metrics(config: PromotionConfig, metrics: Mapping[str, float]) -> list[str]:
    """The metrics that the gate compares and that an evaluation does not have."""
    return [name for name in config.metrics if name not in metrics]


def explain_missing(names: Iterable[str], evaluation: Evaluation) -> str:
    """Why the gate cannot compare these metrics, and which ones it can."""
    metrics = result_metrics(evaluation.results)
    known = sorted(name for name in metrics if not name.startswith(_DETAILS))
    skipped = "".join(f"; {probe} was skipped: {reason}" for probe, reason in _skipped(evaluation).items())
    names = list(names)
    verb = "is" if len(names) == 1 else "are"
    return (
        f"params.yaml: promotion.metrics: {', '.join(names)} {verb} not in the evaluation of {evaluation.name}"
        f"{skipped}. Remove {'it' if len(names) == 1 else 'them'}, or choose from: {', '.join(known)}"
    )


def refuse_unmeasured(project: Project, plan: Plan) -> None:
    """Checks the gate's metrics against the results in the project, as far as these are of the current data.

    Raises:
        ConfigError: a result lacks a metric of the gate, so the gate could not promote any version after the run.
    """
    config, stale = promotion_config(project), plan.stale()
    producers = {project.root / out: node.name for node in plan.nodes.values() for out in node.outs}
    for evaluation in [measured for measured in evaluations(plan, project) if not measured.is_task]:
        changed = [reason for reason in plan.changed.get(evaluation.measured_by.name, ()) if "params.yaml" in reason]
        if changed or any(producers.get(path) in stale for path in evaluation.data):
            continue  # a new evaluation can have other metrics
        if names := missing_metrics(config, result_metrics(evaluation.results)):
            raise ConfigError(f"{explain_missing(names, evaluation)}.")


def _skipped(evaluation: Evaluation) -> dict[str, str]:
    path = evaluation.results / EVALUATION_FILE
    skipped = read_json(path).get("skipped") if path.is_file() else None
    return {
        str(probe): str(reason).rstrip(".") for probe, reason in (skipped or {}).items() if probe != "contributions"
    }
