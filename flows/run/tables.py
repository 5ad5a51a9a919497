"""What a person reads at the end: what ran, how the compositions compare, where everything is."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from cclm_core.evaluation.metrics import Better, Metric, best, read_metrics
from flows.gate.registry import CANDIDATE, model_name
from flows.graph.evaluations import Evaluation
from flows.project import Project
from flows.tracking.client import enabled
from flows.tracking.metrics import result_metrics
from flows.tracking.records import last_values

COSTS: dict[str, Better] = {"evaluation_seconds": "lower", "characters_per_second": "higher"}
ARROWS = {"higher": "↑", "lower": "↓", None: ""}
BEST = "*"
PLOT_SUFFIXES = {".png", ".svg", ".html"}


def comparison(project: Project, measured: Sequence[Evaluation]) -> dict[str, dict[str, Metric]]:
    """Composition -> metric -> what was measured, and what measuring it took when it last ran here."""
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


def figures(compared: Mapping[str, Mapping[str, Metric]]) -> dict[str, dict[str, float]]:
    """Composition -> metric -> value."""
    return {name: {metric: float(one.value) for metric, one in metrics.items()} for name, metrics in compared.items()}


def comparison_rows(compared: Mapping[str, Mapping[str, Metric]]) -> list[dict[str, str]]:
    """A row for each headline metric, or for every metric where there is none: see `comparison_table`.

    Each row has `metric` with an arrow in the better direction, a cell for each composition, and `baselines`, if any.
    The best cell has a `*`; the main baseline competes for it.
    """
    known = {name: metric for metrics in compared.values() for name, metric in metrics.items()}
    shown = {name: metric for name, metric in known.items() if metric.headline} or known
    rows = []
    for name, metric in shown.items():
        values = [metrics.get(name) for metrics in compared.values()]
        rivals = [one.value if one else None for one in values] + [one.value for one in metric.baselines[:1]]
        first = best(rivals, metric.better)
        cells = [_cell(one) + (BEST if place == first else "") for place, one in enumerate(values)]
        row = {"metric": f"{name} {ARROWS[metric.better]}".strip(), **dict(zip(compared, cells, strict=True))}
        if any(one.baselines for one in shown.values()):
            mark = BEST if first == len(values) else ""
            texts = [f"{one.name} {number(one.value)}" for one in metric.baselines]
            row["baselines"] = ", ".join([text + mark if place == 0 else text for place, text in enumerate(texts)])
        rows.append(row)
    return rows


def comparison_table(compared: Mapping[str, Mapping[str, Metric]]) -> Table:
    """A row for each headline metric, a column for each composition and one for the baselines; the best is bold."""
    rows = comparison_rows(compared)
    table = Table(title="Compositions compared", title_justify="left")
    legend = {BEST: "best of its row", "±": "half of the confidence interval"}
    cells = "".join(cell for row in rows for cell in row.values())
    table.caption = ", ".join(f"{sign} {meaning}" for sign, meaning in legend.items() if sign in cells)
    table.caption_justify = "left"
    for column in rows[0] if rows else ("metric", *compared):
        width = max((len(row["metric"]) for row in rows), default=0) if column == "metric" else None
        table.add_column(column, justify="right" if column in compared else "left", min_width=width)
    for row in rows:
        table.add_row(*(f"[bold]{cell}[/bold]" if BEST in cell else cell for cell in row.values()))
    return table


def number(value: float) -> str:
    """Three significant digits, large numbers in thousands or millions.

    >>> [number(value) for value in (0.58964, 2.7461, 384, 61152, 1234567)]
    ['0.590', '2.75', '384', '61.2k', '1.23M']
    """
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e6 if unit == 'M' else 1e3):.3g}{unit}"
    if float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".")


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


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return ""
    text = number(metric.value)
    if metric.interval is None:
        return text
    half = (metric.interval[1] - metric.interval[0]) / 2
    return f"{text} ±{half:.{len(text.partition('.')[2])}f}"
