"""`cclm compare A B`: which is better on what, how they differ in settings, data and code, and what each costs."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from cclm_core.evaluation.metrics import EVALUATION_FILE
from cclm_core.report.differences import MetricDifference, differences
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.files import folder_bytes
from cclm_core.runtime.readers import parse_json
from cclm_core.runtime.reporting import format_number
from flows.formats import ARROWS, format_megabytes
from flows.graph.evaluations import TASK
from flows.graph.node import flatten
from flows.messages import warn
from flows.project import Project
from flows.run.sides import Side, open_side
from flows.run.tables import output_console, print_table

CARDS = ("card.json", "task.json", "composition.json", "component.json", "embedder.json")
TEXTS = ("Where is my card?", "I want my money back, please.", "to be or not to be " * 20)
NUM_TEXTS, ROUNDS = 64, 5
_DIGEST_LENGTH = 64
_RESULT_DIGESTS = ("encoded", "noise", "labeled", "composition", "task")


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison; `settings`, `data` and `code` have only what differs: key, first, second."""

    first: str
    second: str
    metrics: list[MetricDifference]
    settings: list[tuple[str, str, str]]
    data: list[tuple[str, str, str]]
    code: list[tuple[str, str, str]]
    megabytes: tuple[float | None, float | None]
    milliseconds_per_text: tuple[float | None, float | None]
    notes: list[str]

    def summary(self) -> str:
        """One sentence about who is better on how many metrics."""
        if not self.metrics:
            return f"{self.first} and {self.second} have no metric in common."
        wins = {side: sum(row.winner == side for row in self.metrics) for side in ("first", "second", "")}
        return (
            f"Of {len(self.metrics)} metrics, {self.first} is better on {wins['first']}, {self.second} on "
            f"{wins['second']}, and {wins['']} show no clear difference."
        )


def show(project: Project, first: str, second: str, timed: bool, as_json: bool) -> None:
    """Compares two models and prints the result as tables, or as JSON.

    Raises:
        CclmError: one of them does not exist.
        TrackingError: MLflow cannot be reached.
    """
    with tempfile.TemporaryDirectory() as scratch:
        compared = compare(
            open_side(project, first, Path(scratch) / "first"),
            open_side(project, second, Path(scratch) / "second"),
            timed,
        )
    if as_json:
        print(json.dumps(asdict(compared) | {"summary": compared.summary()}, indent=2))
        return
    console = output_console()
    tables = (
        (f"{first} and {second}", metric_rows(compared)),
        ("Cost", cost_rows(compared)),
        *(
            (f"Differences in {name}", _rows(compared, getattr(compared, name)))
            for name in ("settings", "data", "code")
        ),
    )
    for title, rows in tables:
        if rows:
            print_table(console, _table(title, rows), rows)
    console.print(compared.summary(), highlight=False, soft_wrap=True)
    for note in compared.notes:
        warn(note)


def compare(first: Side, second: Side, timed: bool = True) -> Comparison:
    """Compares two models.

    Args:
        timed: whether to measure the speed of both.
    """
    facts = [dict(_facts(side)) for side in (first, second)]
    by_kind = {
        kind: [
            (key, facts[0].get((kind, key), ""), facts[1].get((kind, key), ""))
            for key in dict.fromkeys(key for side in facts for group, key in side if group == kind)
            if facts[0].get((kind, key)) != facts[1].get((kind, key))
        ]
        for kind in ("settings", "data", "code")
    }
    metrics, notes = differences(first.metrics, second.metrics, first.results, second.results)
    return Comparison(
        first=first.label,
        second=second.label,
        metrics=metrics,
        settings=by_kind["settings"],
        data=by_kind["data"],
        code=by_kind["code"],
        megabytes=(_megabytes(first), _megabytes(second)),
        milliseconds_per_text=_speeds(first, second) if timed else (None, None),
        notes=[*first.notes, *second.notes, *notes],
    )


def metric_rows(compared: Comparison) -> list[dict[str, str]]:
    """One row per metric."""
    names = {"first": compared.first, "second": compared.second, "": "no clear difference"}
    rows = []
    for row in compared.metrics:
        interval = "" if row.interval is None else f" ({row.interval[0]:+.3g} to {row.interval[1]:+.3g})"
        values = {f"1: {compared.first}": row.first, f"2: {compared.second}": row.second}
        rows.append(
            {"metric": f"{row.metric} {ARROWS[row.better_direction]}"}
            | {name: format_number(value) for name, value in values.items()}
            | {"2 minus 1": f"{row.difference:+.3g}{interval}", "interval": row.method, "better": names[row.winner]}
        )
    return rows


def cost_rows(compared: Comparison) -> list[dict[str, str]]:
    """Size and time per text."""
    sizes = [None if value is None else format_megabytes(value) for value in compared.megabytes]
    speeds = [None if value is None else f"{value:.3g} ms" for value in compared.milliseconds_per_text]
    lines = (("size", sizes), ("time per text, one CPU thread", speeds))
    return [
        {"cost": name, f"1: {compared.first}": values[0] or "unknown", f"2: {compared.second}": values[1] or "unknown"}
        for name, values in lines
        if any(values)
    ]


def _facts(side: Side) -> Iterator[tuple[tuple[str, str], str]]:
    """(kind, key) -> value, for everything in the cards of a model and its results: settings, data and code."""
    for key, value in side.code.items():
        yield ("code", key), value
    for path in sorted(side.model.rglob("*.json")) if side.model else ():
        if path.name in CARDS and side.model is not None:
            prefix = path.relative_to(side.model).with_suffix("").as_posix()
            for key, value in flatten(read_json(path)).items():
                kind = "code" if key == "code" else "data" if _is_digest(value) else "settings"
                yield (kind, f"{prefix}: {key}"), str(value)
    results = side.results / EVALUATION_FILE if side.results else None
    card = read_json(results) if results is not None and results.is_file() else {}
    for key, value in flatten(card.get("configuration") or {}).items():
        yield ("settings", f"evaluation: {key}"), str(value)
    digests = {name: card[name] for name in _RESULT_DIGESTS if name in card} | {"texts": card.get("texts") or {}}
    for key, value in flatten(digests).items():
        yield ("data", f"evaluation: {key}"), str(value)


def _is_digest(value: Any) -> bool:
    """Whether a value is a SHA-256 digest, or a JSON list of digests."""
    text = str(value).strip('[]"').partition('"')[0]
    return len(text) == _DIGEST_LENGTH and all(letter in "0123456789abcdef" for letter in text)


def _megabytes(side: Side) -> float | None:
    return None if side.model is None else folder_bytes(side.model) / 1e6


def _speeds(first: Side, second: Side) -> tuple[float | None, float | None]:
    """Milliseconds per text of both on the same texts: the median of alternating rounds."""
    from cclm_core.runtime.device import num_threads

    examples = _examples(first) or _examples(second) or [(text, text) for text in TEXTS]
    callers = [None if side.model is None else _caller(side) for side in (first, second)]
    seconds: list[list[float]] = [[], []]
    with num_threads(1):
        for _ in range(ROUNDS + 1):  # the first round only warms up
            for index, call in enumerate(callers):
                if call is not None:
                    started = time.perf_counter()
                    call(examples)
                    seconds[index].append(time.perf_counter() - started)
    medians = [1000 * statistics.median(times[1:]) / len(examples) if times else None for times in seconds]
    return medians[0], medians[1]


def _caller(side: Side) -> Callable[[Sequence[tuple[str, str]]], Any]:
    assert side.model is not None
    if side.kind == TASK:
        from cclm_core.finetuning.store import load_task

        task = load_task(side.model)
        return lambda pairs: task.predict(list(pairs) if task.is_pair else [text for text, _ in pairs])
    from cclm_core.composition.store import load_composition

    composition = load_composition(side.model)
    return lambda pairs: composition.embed([text for text, _ in pairs])


def _examples(side: Side) -> list[tuple[str, str]]:
    """Test texts with their second text, which is the same for tasks that are not on pairs."""
    path = side.results / "predictions.jsonl" if side.results else None
    if path is None or not path.is_file():
        return []
    with path.open(encoding="utf-8") as stream:
        rows = [parse_json(line, path) for _, line in zip(range(NUM_TEXTS), stream, strict=False)]
    return [(str(row["text"]), str(row.get("second") or row["text"])) for row in rows if "text" in row]


def _rows(compared: Comparison, differences: Sequence[tuple[str, str, str]]) -> list[dict[str, str]]:
    return [
        {"key": key, f"1: {compared.first}": _short(first), f"2: {compared.second}": _short(second)}
        for key, first, second in differences
    ]


def _short(value: str) -> str:
    if _is_digest(value) and not value.startswith("["):
        return value[:12]
    return value if len(value) <= 60 else f"{value[:57]}..."


def _table(title: str, rows: Sequence[Mapping[str, str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    return table
