"""What a person reads at the end: what ran, how the compositions compare, where everything is."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from flows.gate.registry import CANDIDATE, model_name
from flows.graph.evaluations import Evaluation
from flows.project import Project
from flows.tracking.client import enabled
from flows.tracking.metrics import result_metrics
from flows.tracking.records import last_values

COST_PREFIXES = ("evaluation_seconds", "characters_per_second")
# metrics.json and MLflow have all metrics of an evaluation; a table of all of them would be too long.
HEADLINES = (
    "bits_per_masked_character",
    "trigram_bits",
    "unigram_bits",
    "entity_f1_",
    "genre_accuracy",
    "genre_majority",
    "parameters",
    "width",
    *COST_PREFIXES,
)
PLOT_SUFFIXES = {".png", ".svg", ".html"}


def comparison(project: Project, measured: Sequence[Evaluation]) -> dict[str, dict[str, float]]:
    """Composition -> metric -> value: what was measured, and what measuring it took when it last ran here."""
    compared = {}
    for evaluation in measured:
        reported = last_values(project, evaluation.evaluate.name)
        cost = {name: value for name, value in reported.items() if name.startswith(COST_PREFIXES)}
        compared[evaluation.name] = result_metrics(evaluation.results) | cost
    return compared


def comparison_table(compared: Mapping[str, Mapping[str, float]]) -> Table:
    """A row for each headline metric, a column for each composition."""
    table = Table(title="Compositions compared", title_justify="left")
    table.add_column("metric")
    for name in compared:
        table.add_column(name, justify="right")
    for metric in headline_metrics(compared):
        table.add_row(metric, *(_number(values.get(metric)) for values in compared.values()))
    return table


def headline_metrics(compared: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The metrics that are shown first; results of other metrics than ours are shown whole."""
    metrics = dict.fromkeys(metric for values in compared.values() for metric in values)
    return [metric for headline in HEADLINES for metric in metrics if metric.startswith(headline)] or list(metrics)


def stages_table(stages: Sequence[Mapping[str, Any]], started: float) -> Table:
    """A row for each stage: what became of it, how long it took, from when to when."""
    table = Table(title="Stages", title_justify="left")
    table.add_column("stage")
    table.add_column("outcome")
    table.add_column("seconds", justify="right")
    table.add_column("from - to", justify="right")
    for row in stages:
        when = ""
        if row["started"] is not None and row["ended"] is not None:
            when = f"{row['started'] - started:.0f} s - {row['ended'] - started:.0f} s"
        table.add_row(row["stage"], row["outcome"], f"{row['seconds']:.1f}" if row["seconds"] else "", when)
    return table


def overlaps(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The stages that ran while another one ran.

    >>> rows = [{"stage": "a", "started": 0, "ended": 5}, {"stage": "b", "started": 4, "ended": 9}]
    >>> overlaps([*rows, {"stage": "c", "started": 9, "ended": 10}])
    ['a', 'b']
    """
    ran = [row for row in stages if row["started"] is not None and row["ended"] is not None]
    return [
        row["stage"]
        for row in ran
        if any(
            other is not row and other["started"] < row["ended"] and row["started"] < other["ended"] for other in ran
        )
    ]


def whereabouts(project: Project, measured: Sequence[Evaluation], uri: str) -> list[str]:
    """Lines about where to look next."""
    lines = []
    for evaluation in measured:
        folders = {path.parent for path in evaluation.results.rglob("*") if path.suffix in PLOT_SUFFIXES}
        lines += [f"plots of {evaluation.name}: {folder.relative_to(project.root)}" for folder in sorted(folders)]
    if not enabled():
        return lines
    lines.append(f"runs, learning curves, models: `cclm ui` ({uri})")
    lines += [
        f"load {evaluation.name}: mlflow.pyfunc.load_model('models:/{model_name(evaluation.name)}@{CANDIDATE}')"
        for evaluation in measured
    ]
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"
