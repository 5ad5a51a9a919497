"""The graph of the pipeline: one box per published folder, with its state and its size."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from cclm_core.report.published import Collection, Published
from cclm_core.runtime.reporting import format_number

_BOX, _GAP, _HEIGHT, _ROW = 162, 24, 56, 68
_MAX_NAME = 20
_PHASES = ("ingest labeled", "vocab noise", "base", "pretrain", "compose", "evaluate finetune", "test")
_COLUMNS = {stage: number for number, stages in enumerate(_PHASES) for stage in stages.split()}

READY, OUTDATED = "up to date", "outdated"


@dataclass(frozen=True)
class Box:
    """A stage in the graph.

    Attributes:
        stage: name of the stage.
        column, row: place.
        state: `up to date`, or `outdated` if an input has changed since.
        reason: what has changed; "" if nothing has.
        size: what it has made, in a few words.
        item: the published folder.
        needs: the stages whose folders it has read.
    """

    stage: str
    column: int
    row: int
    state: str
    reason: str
    size: str
    item: Published
    needs: tuple[str, ...]


def boxes(collection: Collection) -> list[Box]:
    """The stages in columns: those of a phase above each other, to the right of all stages whose folders they read."""
    folders = [item for item in collection.folders if item.kind != "checks"]  # made with the corpus, by the same stage
    inputs = {item.path: collection.made_from(item) for item in folders}
    columns: dict[str, int] = {}

    def column(item: Published) -> int:
        """At least one more than the largest column of the inputs."""
        if item.path not in columns:
            after = 1 + max((column(needed) for needed in inputs[item.path]), default=-1)
            columns[item.path] = max(after, _COLUMNS.get(item.stage.partition("@")[0], 0))
        return columns[item.path]

    rows: dict[int, int] = {}
    made = []
    for item in sorted(folders, key=lambda item: (column(item), item.stage)):
        row = rows.get(column(item), 0)
        rows[column(item)] = row + 1
        changed = collection.outdated(item)
        reason = f"changed since then: {', '.join(changed)}" if changed else ""
        needs = tuple(needed.stage for needed in inputs[item.path])
        state = OUTDATED if changed else READY
        made.append(Box(item.stage, column(item), row, state, reason, size_of(item), item, needs))
    return made


def graph(made: Sequence[Box]) -> Markup:
    """The graph as SVG."""
    columns, rows = 1 + max(box.column for box in made), 1 + max(box.row for box in made)
    width, height = columns * (_BOX + _GAP) - _GAP + 4, rows * _ROW
    counts = {column: sum(box.column == column for box in made) for column in range(columns)}
    places = {
        box.stage: (box.column * (_BOX + _GAP) + 2, round((box.row + (rows - counts[box.column]) / 2) * _ROW + 7, 1))
        for box in made
    }
    lines = [_line(places[need], places[box.stage]) for box in made for need in box.needs]
    drawn = [_box(box, *places[box.stage]) for box in made]
    return Markup(
        f'<svg class="pipeline" role="img" aria-label="the stages of the pipeline" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{"".join(lines + drawn)}</svg>'
    )


def size_of(item: Published) -> str:
    """What a stage has made, in a few words.

    >>> size_of(Published("corpus", "corpus", "data/corpus", Path("."), "", {}))  # doctest: +SKIP
    '5,381 texts'
    """
    values = item.values
    if item.kind == "corpus":
        return f"{values.get('records', 0):,} texts"
    if item.kind == "labeled":
        return f"{values.get('texts', 0):,} texts"
    if item.kind == "encoded":
        return f"{values.get('alphabet', 0):,} characters"
    if item.kind == "noise":
        return f"{len(values.get('rates', {})):,} rates, {values.get('documents', 0):,} texts"
    if item.kind == "evaluation":
        shown = [metric for metric in item.metrics.values() if metric.headline and metric.better]
        return f"{len(shown):,} main metrics"
    if "parameters" in values:
        return f"{format_number(values['parameters'])} parameters"
    return item.kind


def _line(first: tuple[float, float], last: tuple[float, float]) -> str:
    x1, y1, x2, y2 = first[0] + _BOX, first[1] + _HEIGHT / 2, last[0], last[1] + _HEIGHT / 2
    bend = round(min(60.0, (x2 - x1) / 2), 1)
    return f'<path class="edge" d="M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"/>'


def _box(box: Box, x: float, y: float) -> str:
    name = box.stage if len(box.stage) <= _MAX_NAME else f"{box.stage[: _MAX_NAME - 1]}…"
    tip = escape(f"{box.stage}: {box.item.path}, {box.state}" + (f" ({box.reason})" if box.reason else ""))
    kind = "ready" if box.state == READY else "outdated"
    return (
        f'<g class="stage {kind}" data-stage="{escape(box.stage)}"><title>{tip}</title>'
        f'<rect x="{x}" y="{y}" width="{_BOX}" height="{_HEIGHT}" rx="6"/>'
        f'<text class="name" x="{x + 10}" y="{y + 17}">{escape(name)}</text>'
        f'<text class="tick" x="{x + 10}" y="{y + 33}">{escape(box.size)}</text>'
        f'<text class="time tick" x="{x + 10}" y="{y + 48}">{box.item.megabytes:.2g} MB</text></g>'
    )
