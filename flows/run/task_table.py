"""The table of tasks: the main metric of each, clean and under each noise, next to n-grams."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from cclm_core.evaluation.metrics import Metric, best, measured_on
from cclm_core.runtime.reporting import format_number
from flows.formats import ARROWS
from flows.run.tables import BEST, cell, fits, legend, print_table

CLEAN = "clean"
_TEXT_COLUMNS = ("task", "metric", "measured on")


def main_metric(metrics: Mapping[str, Metric]) -> str | None:
    """The name of the main metric on the clean test texts; None without one.

    >>> shown = Metric(value=0.9, better="higher", headline=True)
    >>> main_metric({"accuracy": shown, "accuracy_noise_0.1": shown, "parameters": Metric(value=3, headline=True)})
    'accuracy'
    """
    names = [name for name, metric in metrics.items() if metric.headline and metric.better is not None]
    return min(names, key=len, default=None)


def by_test_set(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Test set -> the main metric on it: `clean`, then noise rates in ascending order, then the other sets."""
    main = main_metric(metrics)
    if main is None:
        return {}
    sets = {
        name.removeprefix(main).removeprefix("_") or CLEAN: metric
        for name, metric in metrics.items()
        if metric.headline and metric.better is not None and (name == main or name.startswith(f"{main}_"))
    }
    return dict(sorted(sets.items(), key=lambda item: _rank(item[0])))


def task_rows(compared: Mapping[str, Mapping[str, Metric]]) -> list[dict[str, str]]:
    """A row per task, and a row per baseline below it. `*` marks the better of both."""
    tasks = {name: by_test_set(metrics) for name, metrics in compared.items()}
    columns = sorted({column for sets in tasks.values() for column in sets}, key=_rank)
    rows = []
    for name, sets in tasks.items():
        if not sets:
            continue
        first = next(iter(sets.values()))
        baselines = [baseline.name for baseline in first.baselines]
        head = {"task": name, "metric": f"{main_metric(compared[name])} {ARROWS[first.better]}"}
        own, others = dict(head), [{"task": f"{name}, {baseline}", "metric": head["metric"]} for baseline in baselines]
        for column in columns:
            metric = sets.get(column)
            values = {} if metric is None else {baseline.name: baseline.value for baseline in metric.baselines}
            winner = None
            if metric is not None:
                winner = best([metric.value, *(values.get(baseline) for baseline in baselines)], metric.better)
            own[column] = cell(metric) + (BEST if winner == 0 else "")
            for number, (row, baseline) in enumerate(zip(others, baselines, strict=True), start=1):
                text = format_number(values[baseline]) if baseline in values else ""
                row[column] = text + (BEST if winner == number else "")
        rows += [own | {"measured on": measured_on(first)}, *(row | {"measured on": ""} for row in others)]
    return rows


def task_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """The rows as a table with the better of model and baseline in bold."""
    table = Table(title="Tasks", title_justify="left", caption=legend(rows), caption_justify="left")
    for column in rows[0] if rows else ("task", "metric"):
        justify = "left" if column in _TEXT_COLUMNS else "right"
        table.add_column(column, justify=justify, no_wrap=column != "measured on")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*(f"[bold]{text}[/bold]" if BEST in text else text for text in row.values()))
    return table


def print_tasks(console: Console, compared: Mapping[str, Mapping[str, Metric]]) -> None:
    """Prints the table of tasks and its legend; nothing without tasks."""
    if rows := task_rows(compared):
        print_table(console, task_table(rows), rows)
        if not fits(console, task_table(rows)):
            console.print(legend(rows), highlight=False)


def _rank(name: str) -> tuple[int, float, str]:
    if name == CLEAN:
        return 0, 0.0, name
    try:
        return 1, float(name.removeprefix("noise_")), name
    except ValueError:
        return 2, 0.0, name
