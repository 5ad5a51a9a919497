"""What a run changed: each model's main metrics before and after, and which model is best on what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from cclm_core.evaluation.metrics import EVALUATION_FILE, Metric, best, read_metrics
from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.report.differences import differences, measured_texts
from cclm_core.runtime.artifacts import MANIFEST, folder_digest, read_json
from cclm_core.runtime.files import folder_bytes
from cclm_core.runtime.reporting import format_number
from flows.formats import ARROWS, format_megabytes, markdown_table
from flows.graph.evaluations import Evaluation
from flows.tracking.metrics import result_metrics

_DATA = ("encoded", "noise", "labeled", "configuration")  # keys of evaluation.json: measured on what, and how
COLUMNS = ("model", "metric", "before", "after", "difference", "verdict")


@dataclass(frozen=True)
class Snapshot:
    """The state of a measured model at one moment.

    Attributes:
        digest: that of its results.
        metrics: name -> metric; those without directions and intervals if the results have no more.
        data: digests of what it was measured on.
    """

    digest: str
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """A metric of a model before and after a run.

    Attributes:
        model: name of the composition or task.
        metric: its name.
        better: `higher` or `lower`.
        before, after: the values.
        margin: that of the gate; None if the gate does not compare the metric.
        verdict: `better`, `worse`, `within the margin`, `no clear difference` (the intervals overlap), or
            `measured on other data`.
    """

    model: str
    metric: str
    better: str
    before: float
    after: float
    margin: float | None
    verdict: str

    def as_json(self) -> dict[str, Any]:
        """The change as JSON-compatible values."""
        return asdict(self)

    def row(self) -> dict[str, str]:
        """The cells of a table."""
        margin = "" if self.margin is None else f" (margin {self.margin:g})"
        cells = (
            self.model,
            f"{self.metric} {ARROWS[self.better]}",
            format_number(self.before),
            format_number(self.after),
            f"{self.after - self.before:+.3g}",
            f"{self.verdict}{margin}",
        )
        return dict(zip(COLUMNS, cells, strict=True))


def snapshots(measured: Iterable[Evaluation]) -> dict[str, Snapshot]:
    """Model -> its results now. Models without results are left out."""
    return {
        evaluation.name: Snapshot(
            folder_digest(evaluation.results), _metrics(evaluation.results), _measured_data(evaluation.results)
        )
        for evaluation in measured
        if (evaluation.results / MANIFEST).is_file()
    }


def changes(
    before: Mapping[str, Snapshot], after: Mapping[str, Snapshot], rules: PromotionConfig, tasks: Iterable[str]
) -> list[Change]:
    """The main metrics of the models whose results a run has changed.

    Args:
        before, after: see `snapshots`.
        rules: the gate's margins, which are for compositions.
        tasks: names of tasks. They have no margins: the gate compares them text by text.
    """
    tasks = set(tasks)
    found = []
    for name, new in after.items():
        old = before.get(name)
        if old is None or old.digest == new.digest:
            continue
        for difference in differences(old.metrics, new.metrics, None, None)[0]:
            rule = None if name in tasks else rules.metrics.get(difference.metric)
            margin = None if rule is None else rules.margin if rule.margin is None else rule.margin
            gain = difference.difference if difference.better_direction == "higher" else -difference.difference
            if old.data != new.data:
                verdict = "measured on other data"
            elif margin is not None:
                verdict = "within the margin" if abs(gain) <= margin else "better" if gain > 0 else "worse"
            elif difference.interval is not None:
                verdict = {"first": "worse", "second": "better", "": "no clear difference"}[difference.winner]
            else:
                verdict = "better" if gain > 0 else "worse" if gain < 0 else "equal"
            found.append(
                Change(
                    name,
                    difference.metric,
                    difference.better_direction,
                    difference.first,
                    difference.second,
                    margin,
                    verdict,
                )
            )
    return found


def best_and_smallest(measured: Sequence[Evaluation]) -> list[str]:
    """Which composition is best on what, and which is the smallest; empty with fewer than two trained ones."""
    compositions = [entry for entry in measured if not entry.is_task and not entry.untrained]
    if len(compositions) < 2:
        return []
    metrics = {entry.name: _metrics(entry.results) for entry in compositions}
    names = dict.fromkeys(
        name for own in metrics.values() for name, metric in own.items() if metric.headline and metric.better
    )
    wins: dict[str, list[str]] = {}
    for name in names:
        entries = [own.get(name) for own in metrics.values()]
        better = next(entry.better for entry in entries if entry)
        winner = best([entry.value if entry else None for entry in entries], better)
        if winner is not None:
            wins.setdefault(compositions[winner].name, []).append(name)
    sizes = {entry.name: folder_bytes(entry.model) / 1e6 for entry in compositions}
    smallest = min(sizes, key=lambda name: sizes[name])
    lines = [f"best {', '.join(won)}: {name}" for name, won in wins.items()]
    return [*lines, f"smallest composition: {smallest} ({format_megabytes(sizes[smallest])})"]


def changes_table(found: Sequence[Change]) -> Table:
    """The changes as a table for the terminal."""
    table = Table(title="Before and after this run", title_justify="left")
    for column in COLUMNS:
        is_number = column in ("before", "after", "difference")
        table.add_column(column, no_wrap=True, justify="right" if is_number else "left")
    for change in found:
        cells = change.row()
        table.add_row(*cells.values(), style="bold" if change.verdict in ("better", "worse") else None)
    return table


def changes_markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """Changes, as JSON-compatible values, as a Markdown table; "" for none."""
    return markdown_table(COLUMNS, [Change(**change).row().values() for change in found])


def _metrics(results: Path) -> dict[str, Metric]:
    plain = {name: Metric(value=value) for name, value in result_metrics(results).items()}
    return plain | read_metrics(results)


def _measured_data(results: Path) -> dict[str, Any]:
    """The digests of the texts if the results have them, otherwise of the whole data."""
    path = results / EVALUATION_FILE
    card = read_json(path) if path.is_file() else {}
    return dict(measured_texts(results)) or {name: card[name] for name in _DATA if name in card}
