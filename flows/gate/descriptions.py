"""The description of a registered version in MLflow: what it is, figures, the gate's decision, how to load it."""

from collections.abc import Mapping

from cclm_core.evaluation.metrics import Metric
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.readers import parse_json
from flows.formats import format_megabytes
from flows.tracking.stage_notes import MAX_NOTE, figures_table, fitted

FIGURES_TAG, KIND_TAG, SIZE_TAG = "cclm.figures", "cclm.kind", "cclm.bytes"
GATE_RESULT_TAG, GATE_REASON_TAG = "gate.result", "gate.reason"
DESCRIBED_TAGS = frozenset({FIGURES_TAG, GATE_RESULT_TAG, GATE_REASON_TAG})
"""When one of these tags changes, the description is written again."""


def version_description(model: str, number: str, tags: Mapping[str, str]) -> str:
    """The description of a version in Markdown, from its tags.

    Args:
        model: name of the registered model.
        number: number of the version; "" for one that is being registered.
        tags: tags of the version.
    """
    kind = tags.get(KIND_TAG, "composition")
    what = f"A {'control with untrained weights' if tags.get('cclm.untrained') == 'true' else kind}"
    size = f", {format_megabytes(int(tags[SIZE_TAG]) / 1e6)}" if tags.get(SIZE_TAG, "").isdecimal() else ""
    commit = tags.get("git.commit", "")[:12]
    changed = " with uncommitted changes" if tags.get("git.dirty") == "true" else ""
    code = f", made by commit {commit}{changed}" if commit else ""
    sections = [f"{what}{size}{code}."]
    if tags.get(GATE_RESULT_TAG):
        sections.append(f"**{tags[GATE_RESULT_TAG]}**: {tags.get(GATE_REASON_TAG, '')}")
    sections += figures_table(version_figures(tags))
    uri = f"models:/{model}/{number or 'VERSION'}"
    call = "vectors" if kind == "composition" else "labels"
    sections.append(f"```python\nimport mlflow\n\n{call} = mlflow.pyfunc.load_model('{uri}').predict(['a text'])\n```")
    sections.append(f"`cclm lineage {model.removeprefix('cclm-')}` shows what it was made from.")
    return fitted("\n\n".join(sections), MAX_NOTE)


def version_figures(tags: Mapping[str, str]) -> dict[str, Metric]:
    """The main metrics in the tags of a version; empty for versions of an earlier release."""
    try:
        values = parse_json(tags.get(FIGURES_TAG, "{}"), FIGURES_TAG)
        return {name: Metric.parse({"headline": True} | value, FIGURES_TAG) for name, value in values.items()}
    except (ArtifactError, ConfigError, AttributeError, TypeError):  # changed by hand
        return {}
