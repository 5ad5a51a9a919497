"""Plots of an evaluation, as PNG files. Equal evaluations give equal bytes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from cclm_core.evaluation.result import Evaluation
from cclm_core.runtime.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_NUMBERED_LABELS = 12  # with more labels, the cells of a confusion matrix are too small for numbers


def plot_noise_curve(path: Path, title: str, evaluation: Evaluation) -> None:
    """Plots the headline metrics with their intervals and baselines against the noise rate."""
    names = {name: metric for _, row in evaluation.curve for name, metric in row.items() if metric.headline}
    with _axes(path) as axes:
        for (name, metric), marker, color in zip(names.items(), cycle("os^Dv"), cycle(range(10)), strict=False):
            points = [(100 * rate, row[name]) for rate, row in evaluation.curve if name in row]
            rates, values = [rate for rate, _ in points], [metric.value for _, metric in points]
            label = f"{name} ({metric.better} is better)"
            axes.plot(rates, values, marker=marker, color=f"C{color}", label=label)
            if all(metric.interval for _, metric in points):
                low, high = zip(*(metric.interval or (0.0, 0.0) for _, metric in points), strict=True)
                axes.fill_between(rates, low, high, color=f"C{color}", alpha=0.15, linewidth=0)
            for number, baseline in enumerate(metric.baselines):
                values = [metric.baselines[number].value for _, metric in points]
                axes.plot(rates, values, "--", color=f"C{color}", label=f"{name}, {baseline.name}")
        axes.set(title=title, xlabel="edits per 100 letters", ylabel="score on held-out documents")
        if axes.get_ylim()[1] <= 1.5:  # shares
            axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")


def plot_confusion(path: Path, title: str, evaluation: Evaluation) -> None:
    """Plots the confusion matrix of labels: numbers of documents, colored by their share of the row.

    With many labels, the figure is larger and the cells have no numbers.
    """
    from sklearn.metrics import confusion_matrix

    rows = evaluation.tables["confusion"]
    true, predicted = ([row[name] for row in rows] for name in ("true", "predicted"))
    labels = sorted({*true, *predicted})
    counts = confusion_matrix(true, predicted, labels=labels)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    ticks, few = range(len(labels)), len(labels) <= _MAX_NUMBERED_LABELS
    size = max(4.4, 0.16 * len(labels) + 2)
    with _figure(path, size, width=max(6.4, size)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in ((row, column) for row in ticks for column in ticks if few):
            color = "white" if shares[row, column] > 0.5 else "black"
            text = f"{counts[row, column]}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=color)
        if not few:
            figure.colorbar(image, label="share of row", shrink=0.5)
        font_size = "medium" if few else 6
        axes.set(title=title, xlabel="predicted label (documents, share of row)", ylabel="true label")
        axes.set_xticks(ticks, labels, rotation=30 if few else 90, ha="right" if few else "center", fontsize=font_size)
        axes.set_yticks(ticks, labels, fontsize=font_size)


def plot_contributions(path: Path, title: str, evaluation: Evaluation) -> None:
    """Plots one bar per component and metric: how much worse the metric is without the component."""
    rows = evaluation.tables["contribution"]
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    with _figure(path, height=1.0 + 0.5 * len(rows) ** 0.5 + 0.22 * len(rows)) as figure:
        for axes, metric in zip(figure.subplots(len(metrics), squeeze=False)[:, 0], metrics, strict=True):
            bars_up = [row for row in rows if row["metric"] == metric][::-1]  # barh draws from the bottom
            values = [row["contribution"] for row in bars_up]
            colors = ["C0" if value > 0 else "C3" for value in values]
            bars = axes.barh([row["component"] for row in bars_up], values, color=colors)
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set_title(metric, fontsize="medium", loc="left")
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


@contextmanager
def _figure(path: Path, height: float = 4.4, width: float = 6.4) -> Iterator["Figure"]:
    require("matplotlib", "evaluation")
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"):  # ignores the user's matplotlibrc
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, format="png", dpi=100, metadata={"Software": None})


@contextmanager
def _axes(path: Path) -> Iterator["Axes"]:
    with _figure(path) as figure:
        yield figure.add_subplot()
