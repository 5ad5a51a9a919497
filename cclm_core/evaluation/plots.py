"""Plots of an evaluation, as PNG files whose bytes depend on the figures alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cclm_core.evaluation.classes import ClassScore

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


@contextmanager
def _axes(path: Path) -> Iterator["Axes"]:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"):  # whatever the user's own matplotlibrc says
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure.add_subplot()
        figure.savefig(path, format="png", dpi=100, metadata={"Software": None})
