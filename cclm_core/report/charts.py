"""Charts as inline SVG: lines, intervals, bars, points, cells. Equal data give equal bytes.

Colors are classes, which page.css defines for light and dark pages and for paper. A `<title>` is the tooltip of its
element. A chart is as wide as a phone, so that its text is never scaled down; a page puts several next to each other.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from cclm_core.runtime.reporting import format_number

NUM_COLORS = 8
"""Classes `s0` to `s7`; more series repeat them, dashed."""

WIDTH, HEIGHT = 380, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 34
_TICKS = 5
_CELL, _NUMBERED_CELL, _LARGE_CELL = 14, 28, 44  # pixels


@dataclass(frozen=True)
class Point:
    """A point of a line: its place, the interval of y if known, and a tooltip."""

    x: float
    y: float
    interval: tuple[float, float] | None = None
    tip: str = ""


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: for the legend.
        points: in the order of x.
        color: the number of its color.
        is_baseline: drawn dashed, without markers.
    """

    name: str
    points: Sequence[Point]
    color: int
    is_baseline: bool = False


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` to pixels from `first` to `last`."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """The pixel of a value, with one decimal."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.first + share * (self.last - self.first), 1)


def ticks(low: float, high: float, number: int = _TICKS) -> list[float]:
    """Round values between `low` and `high`, about `number` of them.

    >>> ticks(0, 1), ticks(3.4, 8.2)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [4.0, 5.0, 6.0, 7.0, 8.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * index, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(title: str, series: Sequence[Series], x_label: str) -> Markup:
    """Lines with their intervals as bands.

    Args:
        title: what the y axis shows; the page shows it above the chart.
        series: the lines.
        x_label: name of the x axis.
    """
    points = [point for line in series for point in line.points]
    if not points:
        return Markup("")
    xs = [point.x for point in points]
    ys = [value for point in points for value in (point.y, *(point.interval or ()))]
    low, high = _padded(min(ys), max(ys))
    x = Scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    y = Scale(low, high, HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(x, y, x_label)]
    for line in series:
        kind = f"s{line.color % NUM_COLORS}"
        dashed = line.is_baseline or line.color >= NUM_COLORS
        if all(point.interval for point in line.points) and len(line.points) > 1:
            parts.append(_band(line.points, x, y, kind))
        path = " ".join(f"{x(point.x)},{y(point.y)}" for point in line.points)
        parts.append(f'<polyline class="line {kind}{" dashed" if dashed else ""}" points="{path}"/>')
        for point in () if line.is_baseline and len(line.points) > 1 else line.points:
            tip = escape(point.tip or f"{line.name}: {format_number(point.y)}")
            parts.append(
                f'<circle class="dot {kind}" cx="{x(point.x)}" cy="{y(point.y)}" r="3.5">{_title(tip)}</circle>'
            )
    return _svg(title, WIDTH, HEIGHT, parts)


def histogram(title: str, counts: Sequence[tuple[str, int]], x_label: str) -> Markup:
    """Bars of neighboring bins, with a tooltip each.

    Args:
        title: what it shows.
        counts: the name and the size of each bin, in order.
        x_label: name of the x axis.
    """
    if not counts:
        return Markup("")
    y = Scale(0, max(1, *(number for _, number in counts)), HEIGHT - _BOTTOM, _TOP)
    step = (WIDTH - _LEFT - _RIGHT) / len(counts)
    parts = [_y_axis(y), _x_label(x_label)]
    every = math.ceil(len(counts) / 6)
    for index, (name, number) in enumerate(counts):
        left = round(_LEFT + index * step, 1)
        top = y(number)
        tip = _title(escape(f"{name} characters: {number:,} texts"))
        height = round(HEIGHT - _BOTTOM - top, 1)
        parts.append(
            f'<rect class="bar s0" x="{left}" y="{top}" width="{round(step - 1, 1)}" height="{height}">{tip}</rect>'
        )
        if index % every == 0:
            label = escape(name.partition("-")[0])
            parts.append(f'<text class="tick" x="{left}" y="{HEIGHT - 20}">{label}</text>')
    return _svg(title, WIDTH, HEIGHT, parts)


@dataclass(frozen=True)
class Row:
    """A row of an interval chart: a value with its interval, colored like its series."""

    name: str
    value: float
    interval: tuple[float, float] | None = None
    color: int | None = None
    note: str = ""


def interval_chart(title: str, rows: Sequence[Row], axis: str, zero: bool = False) -> Markup:
    """One row per value, with its interval as a bar; without a color, gray.

    Args:
        title: what it shows.
        rows: the values, from top to bottom.
        axis: name of the x axis.
        zero: whether 0 is marked and always in the chart.
    """
    values = [value for row in rows for value in (row.value, *(row.interval or ()))] + ([0.0] if zero else [])
    if not rows:
        return Markup("")
    low, high = _padded(min(values), max(values))
    gutter = min(150, 12 + 7 * max(len(row.name) for row in rows))
    height = 26 * len(rows) + 44
    x = Scale(low, high, gutter, WIDTH - _RIGHT)
    parts = [
        f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="6" y2="{height - 34}"/>' for tick in ticks(low, high)
    ]
    parts += [
        f'<text class="tick mid" x="{x(tick)}" y="{height - 20}">{_tick(tick)}</text>' for tick in ticks(low, high)
    ]
    parts.append(f'<text class="label mid" x="{(gutter + WIDTH) / 2}" y="{height - 4}">{escape(axis)}</text>')
    if zero:
        parts.append(f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="6" y2="{height - 34}"/>')
    for index, row in enumerate(rows):
        parts.append(_interval_row(row, x, 19 + 26 * index, gutter))
    return _svg(title, WIDTH, height, parts)


@dataclass(frozen=True)
class Spot:
    """A point of a map, 0 to 1000 in both directions, with a tooltip and a name next to it, if there is room."""

    x: int
    y: int
    group: str
    tip: str = ""
    name: str = ""


@dataclass(frozen=True)
class MapGroups:
    """The colors of the groups of a map: the most frequent have one each, the others are gray."""

    colors: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, groups: Iterable[str]) -> "MapGroups":
        """Gives the most frequent groups a color each."""
        counts: dict[str, int] = {}
        for group in groups:
            counts[group] = counts.get(group, 0) + 1
        top = sorted(counts, key=lambda name: (-counts[name], name))[:NUM_COLORS]
        return cls({name: number for number, name in enumerate(top)})

    def kind(self, group: str) -> str:
        """The class of a group."""
        return f"s{self.colors[group]}" if group in self.colors else "other"


def scatter(title: str, spots: Sequence[Spot], groups: MapGroups) -> Markup:
    """A map of points, colored by group, with a tooltip each."""
    parts = [f'<rect class="frame" x="0.5" y="0.5" width="{WIDTH * 2 - 1}" height="{WIDTH - 1}"/>']
    x, y = Scale(0, 1000, 12, WIDTH * 2 - 12), Scale(0, 1000, WIDTH - 12, 12)
    for spot in spots:
        kind, group = groups.kind(spot.group), escape(spot.group)
        parts.append(
            f'<circle class="spot {kind}" data-group="{group}" cx="{x(spot.x)}" cy="{y(spot.y)}" r="5">'
            f"{_title(escape(spot.tip))}</circle>"
        )
    parts += _names([(x(spot.x), y(spot.y), spot.name) for spot in spots if spot.name])
    return _svg(title, WIDTH * 2, WIDTH, parts, "map")


def _names(spots: Sequence[tuple[float, float, str]]) -> list[str]:
    """The names of points (x, y, name); those that would cover an earlier one are left out."""
    parts: list[str] = []
    used: list[tuple[float, float, float]] = []
    for x, y, full in spots:
        name = _short(full, 20)
        width = 6.5 * len(name)
        fits = x + 8 + width < WIDTH * 2
        left = x + 8 if fits else x - 8 - width
        if all(abs(y - other) >= 13 or left >= stop or left + width <= start for start, stop, other in used):
            used.append((left, left + width, y))
            anchor, place = ("count", x + 8) if fits else ("count end", x - 8)
            parts.append(f'<text class="{anchor}" x="{place:.1f}" y="{y + 4:.1f}">{escape(name)}</text>')
    return parts


def cells(title: str, labels: Sequence[str], counts: Mapping[tuple[int, int], int]) -> Markup:
    """A square of cells, one row per true and one column per predicted label. Empty cells are not drawn.

    Args:
        title: what it shows.
        labels: the labels in order.
        counts: row and column -> number of texts.
    """
    size = max(_CELL, min(_LARGE_CELL, 300 // max(1, len(labels))))
    gutter = min(190, 14 + 6 * max(map(len, labels), default=0))
    side = size * len(labels)
    sums = [0] * len(labels)
    for (row, _), number in counts.items():
        sums[row] += number
    parts = [f'<rect class="frame" x="{gutter}" y="{gutter}" width="{side}" height="{side}"/>']
    for index, label in enumerate(labels):
        name, middle = escape(_short(label)), gutter + size * index + size // 2 + 3
        parts.append(f'<text class="cell end" x="{gutter - 4}" y="{middle}">{name}</text>')
        parts.append(f'<text class="cell" transform="translate({middle},{gutter - 4}) rotate(-90)">{name}</text>')
        line = gutter + size * index
        parts.append(f'<path class="grid" d="M{gutter} {line}h{side}M{line} {gutter}v{side}"/>')
    for (row, column), number in sorted(counts.items()):
        share = number / sums[row]
        kind = "right" if row == column else "wrong"
        tip = f"{labels[row]} → {labels[column]}: {number:,} of {sums[row]:,} ({share:.0%})"
        parts.append(
            f'<rect class="{kind}" x="{gutter + size * column + 1}" y="{gutter + size * row + 1}" width="{size - 1}" '
            f'height="{size - 1}" fill-opacity="{0.15 + 0.85 * share:.2f}">{_title(escape(tip))}</rect>'
        )
        if size >= _NUMBERED_CELL:
            x, y = gutter + size * column + size // 2, gutter + size * row + size // 2 + 4
            parts.append(f'<text class="count mid" x="{x}" y="{y}">{number:,}</text>')
    return _svg(title, gutter + side + 2, gutter + side + 2, parts, "cells")


def _interval_row(row: Row, x: Scale, middle: int, gutter: int) -> str:
    kind = "other" if row.color is None else f"s{row.color % NUM_COLORS}"
    text = f"{row.name}: {format_number(row.value)}"
    if row.interval:
        text += f" ({format_number(row.interval[0])} to {format_number(row.interval[1])})"
    parts = [f'<text class="label end" x="{gutter - 8}" y="{middle + 4}">{escape(_short(row.name, 20))}</text>']
    if row.interval:
        low, high = (x(value) for value in row.interval)
        parts.append(f'<line class="interval {kind}" x1="{low}" x2="{high}" y1="{middle}" y2="{middle}"/>')
    parts.append(f'<circle class="dot {kind}" cx="{x(row.value)}" cy="{middle}" r="4.5"/>')
    return f"<g>{_title(escape(f'{text} {row.note}'.strip()))}{''.join(parts)}</g>"


def _band(points: Sequence[Point], x: Scale, y: Scale, kind: str) -> str:
    lows = [f"{x(point.x)},{y(point.interval[0])}" for point in points if point.interval]
    highs = [f"{x(point.x)},{y(point.interval[1])}" for point in points if point.interval]
    return f'<polygon class="band {kind}" points="{" ".join([*lows, *reversed(highs)])}"/>'


def _axes(x: Scale, y: Scale, x_label: str) -> str:
    marks = "".join(
        f'<text class="tick mid" x="{x(tick)}" y="{HEIGHT - 20}">{_tick(tick)}</text>' for tick in ticks(x.low, x.high)
    )
    return _y_axis(y) + marks + _x_label(x_label)


def _y_axis(y: Scale) -> str:
    return "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick)}" y2="{y(tick)}"/>'
        f'<text class="tick end" x="{_LEFT - 5}" y="{y(tick) + 4}">{_tick(tick)}</text>'
        for tick in ticks(y.low, y.high)
    )


def _x_label(label: str) -> str:
    return f'<text class="label mid" x="{(_LEFT + WIDTH) / 2}" y="{HEIGHT - 4}">{escape(label)}</text>'


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _tick(value: float) -> str:
    return f"{value:g}" if abs(value) < 10_000 else format_number(value)


def _short(name: str, length: int = 28) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _title(text: str) -> str:
    return f"<title>{text}</title>"


def _svg(title: str, width: float, height: float, parts: Sequence[str], kind: str = "chart") -> Markup:
    body = "".join(parts)
    return Markup(
        f'<svg class="{kind}" role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{body}</svg>'
    )
