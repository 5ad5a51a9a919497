"""Views of the features of a composition: all of them, and what is left when one component is left out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class View(NamedTuple):
    """Features that readouts are fitted on.

    Attributes:
        left_out: the component that is left out; "" for the whole composition.
        columns: (K,) int64, the features that count.
    """

    left_out: str
    columns: Tensor

    def of(self, features: Tensor) -> Tensor:
        """The features (..., K) of (..., W) that count."""
        return features[..., self.columns] if self.left_out else features

    def of_sides(self, pooled: Tensor) -> Tensor:
        """The features (N, 2K) that count of (N, 2W): two for each feature of a character, side by side."""
        width = pooled.shape[1] // 2
        return torch.cat([self.of(pooled[:, :width]), self.of(pooled[:, width:])], dim=1) if self.left_out else pooled


def whole(width: int) -> View:
    """The view of all features."""
    return View("", torch.arange(width))


def leaving_one_out(width: int, columns: Mapping[str, slice]) -> list[View]:
    """A view for each component, without its features.

    Args:
        width: W, features of the whole composition.
        columns: where the features of each component stand among them.

    >>> [(view.left_out, view.columns.tolist()) for view in leaving_one_out(3, {"a": slice(0, 1), "b": slice(1, 3)})]
    [('a', [1, 2]), ('b', [0])]
    """
    views = []
    for name, part in columns.items():
        kept = torch.ones(width, dtype=torch.bool)
        kept[part] = False
        views.append(View(name, kept.nonzero().flatten()))
    return views


def contributions(
    metrics: Mapping[str, float], without: Mapping[str, Mapping[str, float]], lower: Sequence[str]
) -> list[dict[str, str | float]]:
    """For each component and metric how much worse the figure is without the component.

    Args:
        metrics: figures of the whole composition.
        without: component that was left out -> figures.
        lower: the metrics of which a lower figure is the better one.

    >>> contributions({"f1": 0.5, "bits": 3.0}, {"a": {"f1": 0.25, "bits": 3.5}}, ["bits"])[1]
    {'component': 'a', 'metric': 'bits', 'whole': 3.0, 'without': 3.5, 'contribution': 0.5}
    """
    rows: list[dict[str, str | float]] = []
    for name, figures in without.items():
        for metric, figure in figures.items():
            gain = figure - metrics[metric] if metric in lower else metrics[metric] - figure
            told = {"whole": metrics[metric], "without": figure, "contribution": gain}
            rows.append({"component": name, "metric": metric, **told})
    return rows
