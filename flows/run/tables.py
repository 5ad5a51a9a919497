"""The tables at the end of a run: what ran, how the compositions compare, where to find the results."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from cclm_core.evaluation.metrics import Better, Metric, best, read_metrics
from cclm_core.runtime.reporting import format_duration, format_number
from flows.formats import ARROWS
from flows.gate.registry import CANDIDATE, model_name
from flows.graph.evaluations import Evaluation
from flows.project import Project
from flows.tracking.client import enabled
from flows.tracking.metrics import result_metrics
from flows.tracking.records import last_values

COSTS: dict[str, Better] = {"evaluation_seconds": "lower", "characters_per_second": "higher"}
BEST = "*"
LEGEND = {
    "↑": "higher is better",
    "↓": "lower is better",
    BEST: "best of the row",
    "±": "half the width of the confidence interval",
}
PLOT_SUFFIXES = {".png", ".svg", ".html"}


def comparison(project: Project, measured: Sequence[Evaluation]) -> dict[str, dict[str, Metric]]:
    """Composition -> metric name -> metric, including the speed of the last evaluation in this clone."""
    compared = {}
    for evaluation in measured:
        plain = {name: Metric(value=value) for name, value in result_metrics(evaluation.results).items()}
        reported = last_values(project, evaluation.evaluate.name)
        cost = {
            name: Metric(value=reported[name], better=better, headline=True)
            for name, better in COSTS.items()
            if name in reported
        }
        compared[evaluation.name] = plain | read_metrics(evaluation.results) | cost
    return compared


def metric_values(compared: Mapping[str, Mapping[str, Metric]]) -> dict[str, dict[str, float]]:
    """Composition -> metric name -> value."""
    return {
        composition: {name: float(metric.value) for name, metric in metrics.items()}
        for composition, metrics in compared.items()
    }


def comparison_rows(compared: Mapping[str, Mapping[str, Metric]]) -> list[dict[str, str]]:
    """One row per headline metric, or per metric if none is a headline metric.

    A row has the cells `metric` (with an arrow in the better direction), one per composition, and `baselines` if any
    metric has baselines. `*` marks the best value among the compositions and the first baseline.
    """
    all_metrics = {name: metric for metrics in compared.values() for name, metric in metrics.items()}
    shown = {name: metric for name, metric in all_metrics.items() if metric.headline} or all_metrics
    rows = []
    for name, metric in shown.items():
        measured = [metrics.get(name) for metrics in compared.values()]
        values = [entry.value if entry else None for entry in measured]
        winner = best([*values, *(baseline.value for baseline in metric.baselines[:1])], metric.better)
        cells = [_cell(entry) + (BEST if index == winner else "") for index, entry in enumerate(measured)]
        row = {"metric": f"{name} {ARROWS[metric.better]}".strip(), **dict(zip(compared, cells, strict=True))}
        if any(entry.baselines for entry in shown.values()):
            texts = [f"{baseline.name} {format_number(baseline.value)}" for baseline in metric.baselines]
            if winner == len(measured):
                texts[0] += BEST
            row["baselines"] = ", ".join(texts)
        rows.append(row)
    return rows


def legend(rows: Sequence[Mapping[str, str]]) -> str:
    """Explains the signs that occur in the cells of `rows`."""
    text = "".join(cell for row in rows for cell in row.values())
    return ", ".join(f"{sign} {meaning}" for sign, meaning in LEGEND.items() if sign in text)


def comparison_table(compared: Mapping[str, Mapping[str, Metric]]) -> Table:
    """The rows of `comparison_rows` as a table with the best composition in bold."""
    rows = comparison_rows(compared)
    table = Table(title="Compositions compared", title_justify="left", caption=legend(rows), caption_justify="left")
    for column in rows[0] if rows else ("metric", *compared):
        width = max((len(row["metric"]) for row in rows), default=0) if column == "metric" else None
        table.add_column(column, justify="right" if column in compared else "left", min_width=width)
    for row in rows:
        table.add_row(*(f"[bold]{cell}[/bold]" if BEST in cell else cell for cell in row.values()))
    return table


def stages_table(stages: Sequence[Mapping[str, Any]], started: float) -> Table:
    """One row per stage: its outcome, its duration, and when it started after the start of the run.

    Args:
        stages: see `StageResult`.
        started: start of the run in Unix seconds.
    """
    table = Table(title="Stages", title_justify="left")
    table.add_column("stage")
    table.add_column("outcome")
    table.add_column("duration", justify="right")
    table.add_column("started after", justify="right")
    for row in stages:
        duration = format_duration(row["seconds"]) if row["seconds"] else ""
        start = "" if row["started"] is None else format_duration(max(0, row["started"] - started))
        table.add_row(row["stage"], row["outcome"], duration, start)
    return table


def overlaps(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The stages that ran at the same time as another stage.

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


def where_to_look(project: Project, measured: Sequence[Evaluation], uri: str) -> list[str]:
    """Lines that name the plots, the MLflow UI, and how to load each composition.

    Args:
        uri: tracking URI of MLflow.
    """
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


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return ""
    text = format_number(metric.value)
    if metric.interval is None:
        return text
    half_width = (metric.interval[1] - metric.interval[0]) / 2
    decimals = len(text.partition(".")[2])
    return f"{text} ±{half_width:.{decimals}f}"
