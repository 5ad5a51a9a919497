"""Views of the features of a composition: all of them, or all but those of one component."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class View(NamedTuple):
    """Features that probes are fitted on.

    Attributes:
        left_out: the component that is left out; "" for the whole composition.
        columns: (K,) int64, the features that are kept.
    """

    left_out: str
    columns: Tensor

    def of(self, features: Tensor) -> Tensor:
        """The features (..., K) of (..., W) that are kept."""
        return features[..., self.columns] if self.left_out else features

    def of_sides(self, pooled: Tensor) -> Tensor:
        """The features (N, 2K) of (N, 2W) that are kept: two pooled ones for each feature of a character."""
        width = pooled.shape[1] // 2
        return torch.cat([self.of(pooled[:, :width]), self.of(pooled[:, width:])], dim=1) if self.left_out else pooled


def whole(width: int) -> View:
    """The view of all features."""
    return View("", torch.arange(width))


def leaving_one_out(width: int, columns: Mapping[str, slice]) -> list[View]:
    """A view for each component, without its features.

    Args:
        width: W, features of the whole composition.
        columns: the columns of the features of each component.

    >>> [(view.left_out, view.columns.tolist()) for view in leaving_one_out(3, {"a": slice(0, 1), "b": slice(1, 3)})]
    [('a', [1, 2]), ('b', [0])]
    """
    views = []
    for name, part in columns.items():
        kept = torch.ones(width, dtype=torch.bool)
        kept[part] = False
        views.append(View(name, kept.nonzero().flatten()))
    return views
