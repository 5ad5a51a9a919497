"""Tables of the page: cells with a text and, for sorting, a number."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from cclm_core.evaluation.metrics import Metric
from cclm_core.runtime.reporting import format_number

ARROWS = {"higher": "↑", "lower": "↓", None: ""}


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        content: text, or markup.
        sort: what it is sorted by; None for its text.
        is_best: whether it is marked as the best of its column.
        is_muted: whether it is of a baseline.
        is_long: whether it is a text that needs much room.
    """

    content: str | Markup
    sort: float | None = None
    is_best: bool = False
    is_muted: bool = False
    is_long: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: the headings.
        rows: as many cells each.
        caption: what the reader has to know about it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


def text_cell(text: object) -> Cell:
    """A cell with a text."""
    return Cell(str(text))


def number_cell(value: float | None, is_best: bool = False, is_muted: bool = False) -> Cell:
    """A cell with a number; empty for None."""
    if value is None:
        return Cell("")
    return Cell(format_number(value), float(value), is_best, is_muted)


def count_cell(number: float) -> Cell:
    """A cell with a number of things."""
    return Cell(f"{number:,.0f}", float(number))


def share_cell(part: float, whole: float) -> Cell:
    """A cell with a share as a bar, a percentage and a count."""
    share = part / whole if whole else 0.0
    width = round(100 * share, 1)
    return Cell(
        Markup('<span class="share"><i style="width:{}%"></i></span> {} ({})').format(
            width, f"{part:,.0f}", f"{share:.1%}"
        ),
        share,
    )


def metric_cell(metric: Metric | None, is_best: bool = False) -> Cell:
    """A value with half the width of its interval; the interval itself is the tooltip. Empty for None.

    >>> metric_cell(Metric(value=0.541, interval=(0.5, 0.58))).content
    Markup('<span title="0.500 to 0.580">0.541 <small>±0.040</small></span>')
    """
    if metric is None:
        return Cell("")
    text = format_number(metric.value)
    if metric.interval is None:
        return Cell(text, float(metric.value), is_best)
    low, high = metric.interval
    decimals = len(text.partition(".")[2])
    markup = Markup('<span title="{} to {}">{} <small>±{}</small></span>').format(
        format_number(low), format_number(high), text, f"{(high - low) / 2:.{decimals}f}"
    )
    return Cell(markup, float(metric.value), is_best)


def heading(name: str, metric: Metric) -> str:
    """A metric as a heading: its name and its better direction.

    >>> heading("label_accuracy", Metric(value=1, better="higher"))
    'label accuracy ↑'
    """
    return f"{readable(name)} {ARROWS[metric.better]}".strip()


def readable(name: str) -> str:
    """A metric's name in words.

    >>> readable("entity_f1_clean")
    'entity F1, clean'
    """
    for suffix in ("_clean", "_natural"):
        if name.endswith(suffix):
            return f"{readable(name.removesuffix(suffix))}, {suffix[1:]}"
    words = name.replace("_noise_", ", noise ").replace("_", " ")
    return " ".join("F1" if word == "f1" else word for word in words.split(" "))


def code(text: str) -> Markup:
    """A text as code."""
    return Markup("<code>{}</code>").format(escape(text))
