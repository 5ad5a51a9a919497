"""Plots of an evaluation, as PNG files whose bytes depend on the figures alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cclm_core.evaluation.classes import ClassScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SERIES = {
    "entity_f1": "entity F1, exact spans",
    "entity_dictionary_f1": "entity F1 of a name dictionary",
    "genre_accuracy": "label accuracy",
}


def plot_noise_curve(path: Path, title: str, rows: Sequence[dict[str, float]]) -> None:
    """Draws each score of `rows` over the noise rate; a row has `rate` and some of the scores."""
    with _axes(path) as axes:
        for (name, label), marker in zip(_SERIES.items(), "os^", strict=True):
            points = [(100 * row["rate"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=marker, label=label)
        axes.set(title=title, xlabel="edits per 100 letters", ylabel="score on held-out documents", ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend()


def plot_confusion(path: Path, title: str, score: ClassScore) -> None:
    """Draws a confusion matrix: numbers of documents, coloured by their share of the row."""
    shares = score.confusion / score.confusion.sum(axis=1, keepdims=True).clip(min=1)
    places = range(len(score.labels))
    with _axes(path) as axes:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in places:
            for column in places:
                colour = "white" if shares[row, column] > 0.5 else "black"
                text = f"{score.confusion[row, column]}\n{shares[row, column]:.0%}"
                axes.text(column, row, text, ha="center", va="center", color=colour)
        axes.set(title=title, xlabel="predicted label (documents, share of row)", ylabel="true label")
        axes.set_xticks(places, score.labels, rotation=30, ha="right")
        axes.set_yticks(places, score.labels)


def plot_contributions(path: Path, title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Draws, for each metric, a bar for each component: how much worse the figure is without it."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    with _figure(path, height=1.0 + 0.5 * len(rows) ** 0.5 + 0.22 * len(rows)) as figure:
        for axes, metric in zip(figure.subplots(len(metrics), squeeze=False)[:, 0], metrics, strict=True):
            chosen = [row for row in rows if row["metric"] == metric][::-1]  # bars are drawn from the bottom
            values = [row["contribution"] for row in chosen]
            axes.barh(
                [row["component"] for row in chosen], values, color=["C0" if value > 0 else "C3" for value in values]
            )
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set_title(metric, fontsize="medium", loc="left")
            axes.margins(x=0.25)
            axes.bar_label(
                axes.containers[0], labels=[f"{value:+.3f}" for value in values], padding=3, fontsize="small"
            )
        figure.suptitle(title)
        figure.supxlabel("how much worse without the component (negative: better without)", fontsize="medium")


@contextmanager
def _figure(path: Path, height: float = 4.4) -> Iterator["Figure"]:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"):  # whatever the user's own matplotlibrc says
        figure = Figure(figsize=(6.4, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, format="png", dpi=100, metadata={"Software": None})


@contextmanager
def _axes(path: Path) -> Iterator["Axes"]:
    with _figure(path) as figure:
        yield figure.add_subplot()
