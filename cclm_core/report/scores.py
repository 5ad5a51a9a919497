"""Comparisons of compositions and tasks, learning curves, noise curves, and what each component contributes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cclm_core.evaluation.metrics import Metric, best, measured_on
from cclm_core.report.charts import Point, Row, Series, interval_chart, line_chart
from cclm_core.report.published import Collection, Model, Published
from cclm_core.report.tables import Cell, Table, count_cell, heading, metric_cell, number_cell, readable, text_cell
from cclm_core.runtime.reporting import format_number

_RATE = re.compile(r"(?P<metric>.+)_noise_(?P<rate>\d+(?:\.\d+)?)")
_CURVE, _CLEAN = "curve.csv", "_clean"
_UNPLOTTED = {"step", "learning_rate"}


@dataclass(frozen=True)
class Chart:
    """A chart with its heading and what the reader has to know about it."""

    heading: str
    svg: Markup
    note: str = ""
    legend: Sequence[tuple[str, int, bool]] = ()


def main_metrics(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics of tables that have a better direction, without those under noise.

    >>> shown = Metric(value=0.9, better="higher", headline=True)
    >>> list(main_metrics({"accuracy": shown, "accuracy_noise_0.1": shown, "width": Metric(value=8, headline=True)}))
    ['accuracy']
    """
    return {name: metric for name, metric in _shown(metrics).items() if not _RATE.fullmatch(name)}


def noised_metrics(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The main metrics under noise, one per rate."""
    return {name: metric for name, metric in _shown(metrics).items() if _RATE.fullmatch(name)}


def _shown(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    return {name: metric for name, metric in metrics.items() if metric.headline and metric.better is not None}


def noise_curves(metrics: Mapping[str, Metric]) -> dict[str, list[tuple[float, Metric]]]:
    """Main metric -> its values by noise rate, from 0."""
    curves: dict[str, list[tuple[float, Metric]]] = {}
    for name, metric in metrics.items():
        match = _RATE.fullmatch(name)
        if match and metric.headline:
            curves.setdefault(match["metric"], []).append((float(match["rate"]), metric))
    for name, points in curves.items():
        clean = metrics.get(f"{name}{_CLEAN}") or metrics.get(name)
        if clean is not None:
            points.append((0.0, clean))
        points.sort(key=lambda point: point[0])
    return curves


def comparison(models: Sequence[Model]) -> Table:
    """A row per model and per baseline, a column per main metric, and what each costs."""
    names = list(dict.fromkeys(name for model in models for name in main_metrics(model.results.metrics)))
    shown = {name: [model.results.metrics.get(name) for model in models] for name in names}
    baselines = list(
        dict.fromkeys(entry.name for values in shown.values() for value in values if value for entry in value.baselines)
    )
    marked = {name: _winner(values) for name, values in shown.items()}
    rows = []
    for index, model in enumerate(models):
        cells = [metric_cell(shown[name][index], marked[name] == index) for name in names]
        cost = [number_cell(model.parameters), Cell(f"{model.model.megabytes:.1f} MB", model.model.megabytes)]
        rows.append([model_cell(model), *cells, *cost])
    for baseline in baselines:
        cells = [_baseline_cell(shown[name], baseline, marked[name] == baseline) for name in names]
        rows.append([Cell(f"{baseline} (baseline)", is_muted=True), *cells, Cell(""), Cell("")])
    first = {name: next(value for value in values if value) for name, values in shown.items()}
    measured = "; ".join(f"{readable(name)}: {measured_on(metric)}" for name, metric in first.items())
    headings = [heading(name, metric) for name, metric in first.items()]
    return Table(("", *headings, "parameters", "size"), rows, f"Measured on: {measured}.")


def model_cell(model: Model, path: str = "") -> Cell:
    """The name of a model, linked to its page.

    Args:
        model: the model.
        path: from the page to the report's folder, e.g. `../`.
    """
    name = Markup('<a href="{}{}">{}</a>').format(path, model.link, model.name)
    return Cell(Markup("{} (untrained)").format(name) if model.is_untrained else name)


def own_scores(model: Model) -> Table:
    """A row per main metric: the value with its interval, the baselines, and what it was measured on."""
    metrics = main_metrics(model.results.metrics)
    names = list(dict.fromkeys(entry.name for metric in metrics.values() for entry in metric.baselines))
    rows = []
    for name, metric in metrics.items():
        values = {entry.name: entry.value for entry in metric.baselines}
        interval = "" if metric.interval is None else " to ".join(map(format_number, metric.interval))
        baselines = [
            number_cell(values.get(other), other in values and is_ahead(values[other], metric)) for other in names
        ]
        cells = [text_cell(heading(name, metric)), metric_cell(metric), text_cell(interval), *baselines]
        rows.append([*cells, text_cell(measured_on(metric))])
    return Table(("metric", "value", "interval", *(f"{name} (baseline)" for name in names), "measured on"), rows)


def comparison_charts(models: Sequence[Model]) -> list[Chart]:
    """One chart per main metric: a row per model and per baseline, with intervals."""
    charts = []
    for name in dict.fromkeys(name for model in models for name in main_metrics(model.results.metrics)):
        rows, first = [], None
        for color, model in enumerate(models):
            metric = model.results.metrics.get(name)
            if metric is not None:
                first = first or metric
                rows.append(Row(model.name, float(metric.value), metric.interval, color))
        for baseline in first.baselines if first else ():
            rows.append(Row(baseline.name, baseline.value))
        if first:
            charts.append(Chart(heading(name, first), interval_chart(name, rows, readable(name)), measured_on(first)))
    return charts


def noise_charts(models: Sequence[Model]) -> list[Chart]:
    """One chart per metric that was measured under noise: a line per model, dashed for its baselines."""
    curves = [noise_curves(model.results.metrics) for model in models]
    charts = []
    for name in dict.fromkeys(name for curve in curves for name in curve):
        series, seen = [], set()
        for color, (model, curve) in enumerate(zip(models, curves, strict=True)):
            points = curve.get(name, [])
            if points:
                series.append(Series(model.name, [_noise_point(model.name, *point) for point in points], color))
            for baseline in dict.fromkeys(entry.name for _, metric in points for entry in metric.baselines):
                if baseline not in seen:
                    seen.add(baseline)
                    series.append(_baseline_series(baseline, points, len(models) + len(seen) - 1))
        first = next(metric for curve in curves for _, metric in curve.get(name, []))
        svg = line_chart(name, series, "edits per 100 letters")
        charts.append(Chart(heading(name, first), svg, legend=_legend(series)))
    return charts


def learning_charts(collection: Collection) -> list[Chart]:
    """The learning curves of everything that was trained: one chart per model and per column of its curve."""
    charts = []
    for item in collection.of_kind("embedder", "component", "task"):
        rows = item.table(_CURVE)
        for column in rows[0] if rows else ():
            points = [Point(float(row["step"]), float(row[column])) for row in rows if row[column] and row["step"]]
            if column in _UNPLOTTED or len(points) < 2:
                continue
            label = "training loss" if column == "loss" else readable(column.replace("held_out_", "held-out "))
            title = f"{item.stage}: {label}"
            svg = line_chart(title, [Series(label, points, 0)], "step")
            charts.append(Chart(title, svg, f"{format_number(points[-1].y)} at the end"))
    return charts


def contribution_charts(models: Sequence[Model]) -> list[Chart]:
    """What each composition loses without each of its components, one chart per main metric."""
    charts = []
    for model in models:
        rows = contributions(model.results)
        for name in main_metrics(model.results.metrics):
            own = [row for row in rows if row["metric"] == name]
            if own:
                bars = [Row(row["component"], _number(row["contribution"]), _interval(row), 0) for row in own]
                chart = interval_chart(f"{model.name}: {name}", bars, "loss without it", zero=True)
                charts.append(Chart(f"{model.name}: {readable(name)}", chart))
    return charts


def part_charts(model: Model) -> list[Chart]:
    """What an ensemble gains over each of its parts alone, one chart per metric and test set."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in model.results.table("parts.csv"):
        bar = Row(row["part"], _number(row["gain"]), _interval(row), 0)
        groups.setdefault((row["metric"], row["set"]), []).append(bar)
    return [
        Chart(
            f"{readable(metric)}, {readable(name)}", interval_chart(f"{metric} {name}", bars, "gain over it", zero=True)
        )
        for (metric, name), bars in groups.items()
    ]


def slices_table(model: Model) -> Table | None:
    """The main metric of a task on parts of its test texts; None without such parts.

    Lengths are in their order; the other parts of a slice begin with the worst.
    """
    rows = model.results.table("slices.csv")
    if not rows:
        return None
    slices = list(dict.fromkeys(row["slice"] for row in rows))
    rows.sort(key=lambda row: (slices.index(row["slice"]), _first_number(row["value"]), _number(row["score"])))
    cells = [
        [
            text_cell(row["slice"]),
            text_cell(row["value"]),
            number_cell(_number(row["texts"])),
            metric_cell(Metric(value=_number(row["score"]), interval=_interval(row))),
        ]
        for row in rows
    ]
    return Table(("slice", "value", "texts", readable(rows[0]["metric"])), cells)


def entities_table(model: Model) -> Table | None:
    """How well each kind of entity is found: a row per kind and test set; None for a model that tags nothing."""
    rows = model.results.table("entities.csv")
    if not rows:
        return None
    numbers = ("precision", "recall", "f1")
    cells = [
        [
            text_cell(row["label"]),
            text_cell(readable(row["set"])),
            count_cell(_number(row["gold"])),
            count_cell(_number(row["predicted"])),
            *(number_cell(_number(row[name])) for name in numbers),
        ]
        for row in sorted(rows, key=lambda row: row["label"])
    ]
    return Table(("kind", "test set", "in the texts", "predicted", *map(readable, numbers)), cells)


def all_metrics(models: Sequence[Model]) -> Table:
    """Every metric of every model that has a direction, also those under noise and of baselines."""
    names = dict.fromkeys(
        name
        for model in models
        for name, metric in model.results.metrics.items()
        if metric.better and not name.startswith("contribution/")
    )
    rows = []
    for name in names:
        values = [model.results.metrics.get(name) for model in models]
        first = next(value for value in values if value)
        rows.append([text_cell(heading(name, first)), *(metric_cell(value) for value in values)])
    return Table(("metric", *(model.name for model in models)), rows)


def contributions(results: Published) -> list[dict[str, str]]:
    """The rows of contribution.csv."""
    return results.table("contribution.csv")


def model_legend(models: Sequence[Model]) -> list[tuple[str, int, bool]]:
    """The names and colors of models in the charts."""
    return [(model.name, color, False) for color, model in enumerate(models)]


def is_ahead(value: float, metric: Metric) -> bool:
    """Whether a baseline is outside the interval of a metric, on the better side."""
    low, high = metric.interval or (float(metric.value), float(metric.value))
    return value > high if metric.better == "higher" else value < low


def _winner(values: Sequence[Metric | None]) -> int | str | None:
    """The index of the best model, or the name of the baseline that is better than all; None if there is nothing to
    choose."""
    first = next((value for value in values if value), None)
    if first is None:
        return None
    baselines = [(entry.name, entry.value) for entry in first.baselines]
    index = best(
        [*(value.value if value else None for value in values), *(value for _, value in baselines)], first.better
    )
    if index is None or index < len(values):
        return index
    return baselines[index - len(values)][0]


def _baseline_cell(values: Sequence[Metric | None], name: str, is_best: bool) -> Cell:
    entries = [entry.value for value in values if value for entry in value.baselines if entry.name == name]
    return number_cell(entries[0] if entries else None, is_best, is_muted=True)


def _noise_point(name: str, rate: float, metric: Metric) -> Point:
    interval = (
        f" ({format_number(metric.interval[0])} to {format_number(metric.interval[1])})" if metric.interval else ""
    )
    tip = f"{name} at {100 * rate:g} edits per 100 letters: {format_number(metric.value)}{interval}"
    return Point(100 * rate, float(metric.value), metric.interval, tip)


def _baseline_series(name: str, points: Sequence[tuple[float, Metric]], color: int) -> Series:
    values = [
        Point(100 * rate, entry.value) for rate, metric in points for entry in metric.baselines if entry.name == name
    ]
    return Series(f"{name} (baseline)", values, color, is_baseline=True)


def _legend(series: Sequence[Series]) -> list[tuple[str, int, bool]]:
    return [(line.name, line.color, line.is_baseline) for line in series]


def _first_number(value: str) -> float:
    """The number at the start of the name of a length; 0 for other parts.

    >>> _first_number("200 or more"), _first_number("200 euros")
    (200.0, 0.0)
    """
    number, _, rest = value.partition(" ")
    return float(number) if number.isdecimal() and rest == "or more" else 0.0


def _number(text: str) -> float:
    return float(text) if text else 0.0


def _interval(row: Mapping[str, str]) -> tuple[float, float] | None:
    return (float(row["low"]), float(row["high"])) if row["low"] and row["high"] else None
