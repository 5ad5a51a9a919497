"""Which components each probe of a composition reads, why, and what it gains over its best component alone."""

from collections.abc import Mapping
from typing import Any

from cclm_core.evaluation.files import CHOICE_FILE
from cclm_core.evaluation.metrics import Metric
from cclm_core.report.published import Model
from cclm_core.report.tables import Cell, Table, metric_cell, number_cell, readable, text_cell
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.reporting import format_number

_WAYS = {
    "concatenation": "one probe on all their features",
    "scaled": "one probe on their features, with a factor per component",
    "fixed": "a probe per component, log-probabilities added with these weights",
}


def choices_table(model: Model) -> Table | None:
    """A row per probe and component; None without choices."""
    path = model.results.folder / CHOICE_FILE
    choices: Mapping[str, Any] = read_json(path) if path.is_file() else {}
    rows, notes = [], []
    for probe, choice in choices.items():
        chosen = choice["chosen"]
        way = _WAYS[chosen["weights"]] if len(chosen["parts"]) > 1 else "one component"
        levels = [name for name in chosen if name == "clean" or name.startswith("noise_")]
        losses = ", ".join(f"{format_number(chosen[name])} {readable(name)}" for name in levels)
        notes.append(f"{probe}: {way}; loss {format_number(chosen['loss'])} ({losses}).")
        for name, facts in choice["parts"].items():
            rows.append(
                [
                    text_cell(probe),
                    text_cell(name),
                    text_cell("yes" if facts["chosen"] else "no"),
                    number_cell(facts.get("weight", facts.get("factor"))),
                    number_cell(facts["alone"]),
                    number_cell(facts.get("without")),
                ]
            )
    if not rows:
        return None
    caption = f"Chosen by log-loss on validation texts, in nats, lower is better. {' '.join(notes)}"
    return Table(("probe", "component", "read", "weight or factor", "loss alone", "loss without it"), rows, caption)


def best_part_table(model: Model) -> Table | None:
    """A row per metric and test set: the composition next to its best component alone; None without such figures."""
    rows = []
    for row in model.results.table("alone.csv"):
        if row["best"]:
            values = [float(row[name]) for name in ("composition", "alone", "gain", "low", "high")]
            gain = Metric(value=values[2], interval=(values[3], values[4]))
            cells: list[Cell] = [text_cell(readable(row["metric"])), text_cell(readable(row["set"]))]
            cells += [number_cell(values[0]), text_cell(row["part"]), number_cell(values[1]), metric_cell(gain)]
            rows.append(cells)
    columns = ("metric", "test set", "composition", "best component", "alone", "gain over it")
    return Table(columns, rows) if rows else None
