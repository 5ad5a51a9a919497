"""The tables at the end of a run: what ran, how the compositions compare, where to find the results."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cclm_core.evaluation.metrics import EVALUATION_FILE, Better, Metric, best, measured_on, read_metrics
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.reporting import format_duration, format_number
from flows.formats import ARROWS
from flows.gate.registry import CANDIDATE, model_name
from flows.graph.evaluations import Evaluation
from flows.project import Project
from flows.tracking.client import enabled
from flows.tracking.metrics import result_metrics
from flows.tracking.records import last_values

COSTS: dict[str, Better] = {"evaluation_cpu_seconds": "lower", "characters_per_cpu_second": "higher"}
BEST = "*"
LEGEND = {
    "↑": "higher is better",
    "↓": "lower is better",
    BEST: "best of the row",
    "±": "half the width of the confidence interval",
}
PIPED_COLUMNS = 160
MAX_WIDTH = 10_000  # columns, to find out how wide a table would like to be
STAGE_COLUMNS = ("stage", "outcome", "duration", "started after")
PLOT_SUFFIXES = {".png", ".svg", ".html"}


def current(measured: Iterable[Evaluation], stages: Sequence[Mapping[str, Any]]) -> list[Evaluation]:
    """The evaluations that are part of a run and up to date after it.

    Args:
        measured: all compositions and tasks with results in the project.
        stages: the results of the run's stages, see `StageResult`.
    """
    done = {row["stage"] for row in stages if row["outcome"] not in ("failed", "not run")}
    return [evaluation for evaluation in measured if {evaluation.made_by.name, evaluation.measured_by.name} <= done]


def evaluation_warnings(measured: Iterable[Evaluation]) -> list[str]:
    """What makes metrics less reliable than they look, such as few test documents; each warning once."""
    warnings: dict[str, list[str]] = {}
    for evaluation in measured:
        path = evaluation.results / EVALUATION_FILE
        for warning in (read_json(path).get("warnings") if path.is_file() else None) or ():
            warnings.setdefault(str(warning), []).append(evaluation.name)
    return [f"{', '.join(names)}: {warning}" for warning, names in warnings.items()]


def comparison(project: Project, measured: Sequence[Evaluation]) -> dict[str, dict[str, Metric]]:
    """Composition or task -> metric name -> metric, including the speed of the last evaluation in this clone."""
    compared = {}
    for evaluation in measured:
        plain = {name: Metric(value=value) for name, value in result_metrics(evaluation.results).items()}
        reported = last_values(project, evaluation.measured_by.name)
        cost = {
            name: Metric(value=reported[name], better=better, headline=True)
            for name, better in COSTS.items()
            if name in reported
        }
        compared[evaluation.name] = plain | read_metrics(evaluation.results) | cost
    return compared


def metric_values(compared: Mapping[str, Mapping[str, Metric]]) -> dict[str, dict[str, float]]:
    """Composition or task -> metric name -> value."""
    return {
        composition: {name: float(metric.value) for name, metric in metrics.items()}
        for composition, metrics in compared.items()
    }


def comparison_rows(compared: Mapping[str, Mapping[str, Metric]]) -> list[dict[str, str]]:
    """One row per headline metric, or per metric if none is a headline metric.

    A row has the cells `metric` (with an arrow in the better direction), one per composition, `baselines` if any metric
    has baselines, and `measured on` if the number of documents is known. `*` marks the best value among the
    compositions and the first baseline.
    """
    all_metrics = {name: metric for metrics in compared.values() for name, metric in metrics.items()}
    shown = {name: metric for name, metric in all_metrics.items() if metric.headline} or all_metrics
    rows = []
    for name, metric in shown.items():
        measured = [metrics.get(name) for metrics in compared.values()]
        values = [entry.value if entry else None for entry in measured]
        winner = best([*values, *(baseline.value for baseline in metric.baselines[:1])], metric.better)
        cells = [cell(entry) + (BEST if index == winner else "") for index, entry in enumerate(measured)]
        row = {"metric": f"{name} {ARROWS[metric.better]}".strip(), **dict(zip(compared, cells, strict=True))}
        if any(entry.baselines for entry in shown.values()):
            texts = [f"{baseline.name} {format_number(baseline.value)}" for baseline in metric.baselines]
            if winner == len(measured):
                texts[0] += BEST
            row["baselines"] = ", ".join(texts)
        if any(measured_on(entry) for entry in shown.values()):
            row["measured on"] = measured_on(metric)
        rows.append(row)
    return rows


def legend(rows: Sequence[Mapping[str, str]]) -> str:
    """Explains the signs that occur in the cells of `rows`."""
    text = "".join(cell for row in rows for cell in row.values())
    return ", ".join(f"{sign} {meaning}" for sign, meaning in LEGEND.items() if sign in text)


def print_comparison(console: Console, compared: Mapping[str, Mapping[str, Metric]]) -> None:
    """Prints `comparison_table` and its legend."""
    rows = comparison_rows(compared)
    print_table(console, comparison_table(compared), rows)
    if not fits(console, comparison_table(compared)):
        console.print(legend(rows), highlight=False)


def output_console() -> Console:
    """A console on standard output: as wide as the terminal or COLUMNS, otherwise wide enough for most tables."""
    is_known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if is_known else PIPED_COLUMNS)


def print_table(console: Console, table: Table, rows: Sequence[Mapping[str, str]]) -> None:
    """Prints a table, or on a console that is too narrow for it, a few lines for each row, so that nothing is cut.

    Args:
        console: where to print.
        table: the table. Its columns must not be narrower than their contents, unless they can wrap at spaces.
        rows: the same content. The first cell of each row is its heading.
    """
    if fits(console, table):
        console.print(table)
        return
    console.print(str(table.title), highlight=False)
    for row in rows:
        (_, heading), *cells = row.items()
        console.print(Text(heading, style="bold"), soft_wrap=True)
        width = max(len(name) for name in row)
        for name, cell in cells:
            if cell:
                line = cell.replace("\n", "; ")
                console.print(Text(f"  {name:<{width}}  {line}"), soft_wrap=True)


def fits(console: Console, table: Table) -> bool:
    """Whether a console is wide enough for a table."""
    return Measurement.get(console, console.options.update(max_width=MAX_WIDTH), table).minimum <= console.width


def comparison_table(compared: Mapping[str, Mapping[str, Metric]]) -> Table:
    """The rows of `comparison_rows` as a table with the best composition in bold."""
    rows = comparison_rows(compared)
    table = Table(title="Compositions compared", title_justify="left", caption=legend(rows), caption_justify="left")
    for column in rows[0] if rows else ("metric", *compared):
        is_wrapped = column in ("baselines", "measured on")
        table.add_column(column, justify="right" if column in compared else "left", no_wrap=not is_wrapped)
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
    for column in STAGE_COLUMNS:
        table.add_column(column, no_wrap=True, justify="left" if column in ("stage", "outcome") else "right")
    for cells in stage_rows(stages, started):
        table.add_row(*cells.values())
    return table


def stage_rows(stages: Sequence[Mapping[str, Any]], started: float) -> list[dict[str, str]]:
    """The rows of `stages_table`."""
    rows = []
    for row in stages:
        duration = format_duration(row["seconds"]) if row["seconds"] else ""
        start = "" if row["started"] is None else format_duration(max(0, row["started"] - started))
        cells = (row["stage"], row["outcome"], duration, start)
        rows.append(dict(zip(STAGE_COLUMNS, cells, strict=True)))
    return rows


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
    """Lines that name the plots, the MLflow UI, and how to load each model.

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


def cell(metric: Metric | None) -> str:
    """A value with half the width of its interval; "" for None.

    >>> cell(Metric(value=0.541, interval=(0.5, 0.58)))
    '0.541 ±0.040'
    """
    if metric is None:
        return ""
    text = format_number(metric.value)
    if metric.interval is None:
        return text
    half_width = (metric.interval[1] - metric.interval[0]) / 2
    decimals = len(text.partition(".")[2])
    return f"{text} ±{half_width:.{decimals}f}"
