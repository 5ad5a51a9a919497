"""Plots of an evaluation, as PNG files. Equal evaluations give equal bytes."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cclm_core.evaluation.metrics import measured_on
from cclm_core.evaluation.result import Evaluation
from cclm_core.runtime.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_NUMBERED_LABELS = 12  # with more labels, the cells of a confusion matrix are too small for numbers
_MAX_MATRIX_LABELS = 100  # with more labels, not even the names next to the matrix can be read
_MAX_CONFUSIONS = 20  # bars in the plot of the most frequent confusions
_MAX_NAME = 40  # characters of a label or a component in a plot


def plot_noise_curve(path: Path, title: str, evaluation: Evaluation) -> None:
    """Plots the headline metrics with their intervals and baselines against the noise rate."""
    names = {name: metric for _, row in evaluation.curve for name, metric in row.items() if metric.headline}
    with _axes(path) as axes:
        for (name, metric), marker, color in zip(names.items(), cycle("os^Dv"), cycle(range(10)), strict=False):
            points = [(100 * rate, row[name]) for rate, row in evaluation.curve if name in row]
            rates, values = [rate for rate, _ in points], [metric.value for _, metric in points]
            label = f"{name} ({'; '.join(filter(None, (f'{metric.better} is better', measured_on(metric))))})"
            axes.plot(rates, values, marker=marker, color=f"C{color}", label=label)
            if all(metric.interval for _, metric in points):
                low, high = zip(*(metric.interval or (0.0, 0.0) for _, metric in points), strict=True)
                axes.fill_between(rates, low, high, color=f"C{color}", alpha=0.15, linewidth=0)
            for number, baseline in enumerate(metric.baselines):
                values = [metric.baselines[number].value for _, metric in points if len(metric.baselines) > number]
                axes.plot(rates[: len(values)], values, "--", color=f"C{color}", label=f"{name}, {baseline.name}")
        most = max((metric.documents or 0 for metric in names.values()), default=0)
        axes.set(title=f"{title}, {most:,} documents" if most else title, xlabel="edits per 100 letters")
        axes.set_ylabel("score on held-out documents")
        if axes.get_ylim()[1] <= 1.5:  # shares
            axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")


def plot_confusion(path: Path, title: str, evaluation: Evaluation) -> None:
    """Plots the confusion matrix of labels: numbers of documents, colored by their share of the row.

    With many labels, the figure is larger, the cells have no numbers, and bars show the most frequent confusions. With
    very many labels, there are only the bars.
    """
    from sklearn.metrics import confusion_matrix

    rows = evaluation.tables["confusion"]
    true, predicted = ([row[name] for row in rows] for name in ("true", "predicted"))
    labels = sorted({*true, *predicted})
    few = len(labels) <= _MAX_NUMBERED_LABELS
    title = f"{title}: {len(rows):,} documents, {len(set(true)):,} labels"
    if len(labels) > _MAX_MATRIX_LABELS:
        with _axes(path) as axes:
            axes.figure.suptitle(title)
            _draw_confusions(axes, Counter(zip(true, predicted, strict=True)))
        return
    counts = confusion_matrix(true, predicted, labels=labels)
    size = max(4.4, (0.6 if few else 0.16) * len(labels) + 2)
    with _figure(path, size, width=max(6.4, size) + (0 if few else 6)) as figure:
        figure.suptitle(title)
        if few:
            _draw_matrix(figure.add_subplot(), counts, labels, few)
        else:
            grid = figure.add_gridspec(1, 2, width_ratios=(size, 6))
            _draw_matrix(figure.add_subplot(grid[0]), counts, labels, few)
            _draw_confusions(figure.add_subplot(grid[1]), Counter(zip(true, predicted, strict=True)))


def _draw_matrix(axes: "Axes", counts: npt.NDArray[np.int64], labels: Sequence[str], few: bool) -> None:
    """Draws the numbers (C, C) of documents, one row per true label and one column per predicted label."""
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    ticks, names = range(len(labels)), [_shortened(label) for label in labels]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in ((row, column) for row in ticks for column in ticks if few):
        color = "white" if shares[row, column] > 0.5 else "black"
        text = f"{counts[row, column]}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=color)
    if not few:
        axes.figure.colorbar(image, label="share of row", shrink=0.5)
    font_size = "medium" if few else 6
    axes.set(xlabel="predicted label" + (" (documents, share of row)" if few else ""), ylabel="true label")
    axes.set_xticks(ticks, names, rotation=30 if few else 90, ha="right" if few else "center", fontsize=font_size)
    axes.set_yticks(ticks, names, fontsize=font_size)


def _draw_confusions(axes: "Axes", pairs: Mapping[tuple[str, str], int]) -> None:
    """Draws one bar per pair of true and wrongly predicted label, for the most frequent ones."""
    wrong = {pair: number for pair, number in pairs.items() if pair[0] != pair[1]}
    top = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:_MAX_CONFUSIONS][::-1]  # barh draws upward
    bars = axes.barh(range(len(top)), [number for _, number in top], color="C1")
    axes.bar_label(bars, padding=3, fontsize="small")
    axes.set_yticks(range(len(top)), [" → ".join(map(_shortened, pair)) for pair, _ in top], fontsize="small")
    axes.set_title("most frequent confusions (true → predicted)", fontsize="medium")
    axes.set_xlabel("documents")
    axes.margins(x=0.15)


def plot_contributions(path: Path, title: str, evaluation: Evaluation) -> None:
    """Plots one bar per component and metric: how much worse the metric is without the component."""
    rows = evaluation.tables["contribution"]
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    with _figure(path, height=1.0 + 0.5 * len(rows) ** 0.5 + 0.22 * len(rows)) as figure:
        for axes, metric in zip(figure.subplots(len(metrics), squeeze=False)[:, 0], metrics, strict=True):
            bars_up = [row for row in rows if row["metric"] == metric][::-1]  # barh draws from the bottom
            values = [row["contribution"] for row in bars_up]
            colors = ["C0" if value > 0 else "C3" for value in values]
            bars = axes.barh(range(len(bars_up)), values, color=colors)
            axes.set_yticks(range(len(bars_up)), [_shortened(row["component"]) for row in bars_up])
            axes.axvline(0, color="black", linewidth=0.8)
            published = evaluation.metrics.get(metric)
            sample = measured_on(published) if published else ""
            axes.set_title(f"{metric} ({sample})" if sample else metric, fontsize="medium", loc="left")
            axes.margins(x=0.25)
            axes.bar_label(bars, labels=[f"{value:+.3f}" for value in values], padding=3, fontsize="small")
        figure.suptitle(title)
        figure.supxlabel("how much worse without the component (negative: better without)", fontsize="medium")


PLOTS: dict[str, tuple[str, Callable[[Path, str, Evaluation], None]]] = {
    "noise_curve": ("scores under typing noise", plot_noise_curve),
    "confusion": ("labels of held-out documents", plot_confusion),
    "contribution": ("contribution of each component", plot_contributions),
}
"""Table name -> title and plot function."""


def _shortened(name: str) -> str:
    """A name that fits into a plot: one line, printable, at most `_MAX_NAME` characters."""
    line = "".join(character if character.isprintable() else " " for character in name)
    return line if len(line) <= _MAX_NAME else line[: _MAX_NAME - 1] + "…"


@contextmanager
def _figure(path: Path, height: float = 4.4, width: float = 6.4) -> Iterator["Figure"]:
    require("matplotlib", "evaluation")
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Ignores the user's matplotlibrc. Labels and names are texts, never formulas.
    with matplotlib.style.context("default"), matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, format="png", dpi=100, metadata={"Software": None})


@contextmanager
def _axes(path: Path) -> Iterator["Axes"]:
    with _figure(path) as figure:
        yield figure.add_subplot()
