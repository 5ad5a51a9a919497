"""What people read first about a stage's run in MLflow: its parameters and its description."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cclm_core.evaluation.metrics import EVALUATION_FILE, Metric, measured_on, read_metrics
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.reporting import format_duration, format_number
from flows.formats import ARROWS, markdown_table
from flows.graph.node import Node, artifact_kind, flatten
from flows.project import Project

MAX_NOTE = 5000  # characters in the description of a run or a version; MLflow's limit for versions
_LOADERS = {
    "composition": "from cclm_core import load\n\nfeatures = load({path!r}).embed(['a text'])",
    "component": "from cclm_core import load\n\ncomponent = load({path!r})",
}
_PURPOSES = {
    "corpus": "The texts, split into training, validation and test.",
    "encoded": "The vocabulary, and the texts as ids.",
    "noise": "Test sets with typing errors.",
    "embedder": "The shared embedder, which is trained first and then frozen.",
    "component": "A component, trained over the frozen base on its own objective.",
    "composition": "A composition: its components joined over the base. Nothing was trained.",
    "evaluation": "Measurements on texts that were not used for training.",
    "labeled": "Labeled texts of a task.",
    "task": "The model of a task, fine-tuned on labeled texts.",
    "report": "The pages about everything that was published: `report.html` among the artifacts, and one per model.",
}
"""Kind of a published folder -> what it is."""


def composition_params(project: Project, node: Node) -> dict[str, Any]:
    """What the composition that a stage reads consists of. All have the same names, so that MLflow compares them.

    Returns:
        `composition.parts`, `composition.fusion`, `composition.untrained`, the settings of each part, and the number of
        parameters; empty if the stage reads none.
    """
    for path in node.deps:
        folder = project.root / path
        if artifact_kind(folder) != "composition" or not (folder / "composition.json").is_file():
            continue
        card = read_json(folder / "composition.json")
        values = {key: value for key, value in card.items() if key in ("parts", "fusion")}
        values |= _read(folder / "card.json").get("configuration", {})
        values |= {key: value for key, value in _read(folder / "metrics.json").items() if key == "parameters"}
        for part in card["parts"]:
            own = _read(folder / "parts" / part / "component.json")
            values |= {part: {key: own[key] for key in ("objective", "encoder", "width") if key in own}}
        return flatten({"composition": values})
    return {}


def stage_note(project: Project, node: Node, seconds: float) -> str:
    """The description of a stage that has succeeded, in Markdown: what it made, figures with intervals, how to load it.

    Args:
        project: the project.
        node: the stage.
        seconds: how long it took.
    """
    outs = [(path, kind) for path in node.outs if (kind := artifact_kind(project.root / path))]
    sections = []
    for path, kind in outs:
        sections.append(f"{_PURPOSES.get(kind, f'A {kind}.')} Output: `{path}`.")
        folder = project.root / path
        sections += [*figures_table(read_metrics(folder)), *_warnings(folder)]
        if kind in _LOADERS:
            sections.append(f"```python\n{_LOADERS[kind].format(path=path)}\n```")
        elif kind == "task":
            sections.append(f"```sh\necho 'a text' | cclm predict {path}\n```")
    sections.append(f"Took {format_duration(seconds)}.")
    return fitted("\n\n".join(sections), MAX_NOTE)


def figures_table(metrics: Mapping[str, Metric]) -> list[str]:
    """The main metrics as a Markdown table with intervals and baselines, as a list of one text; empty without any."""
    shown = {name: metric for name, metric in metrics.items() if metric.headline and metric.better}
    if not shown:
        return []
    rows = [_figure(name, metric) for name, metric in shown.items()]
    return [markdown_table(("metric", "value", "interval", "baseline", "measured on"), rows)]


def fitted(note: str, limit: int) -> str:
    """A description that MLflow accepts: whole lines of at most `limit` characters, with a mark if some are missing.

    >>> fitted("one\\ntwo\\nthree", 10)
    'one\\n\\n...'
    """
    if len(note) <= limit:
        return note
    return f"{note[: limit - 5].rpartition(chr(10))[0]}\n\n..."


def _figure(name: str, metric: Metric) -> tuple[str, ...]:
    interval = "" if metric.interval is None else " to ".join(map(format_number, metric.interval))
    baseline = metric.baselines[0] if metric.baselines else None
    return (
        f"{name} {ARROWS[metric.better]}",
        format_number(metric.value),
        interval,
        "" if baseline is None else f"{baseline.name} {format_number(baseline.value)}",
        measured_on(metric),
    )


def _warnings(results: Path) -> list[str]:
    warnings = _read(results / EVALUATION_FILE).get("warnings") or ()
    return [f"**Warning:** {warning}" for warning in warnings]


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
