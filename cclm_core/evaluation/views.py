"""Views of the features of a composition: all features, or all except those of one component."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class View(NamedTuple):
    """A selection of features to fit a probe on.

    Attributes:
        left_out: name of the component without its features here; "" for the whole composition.
        columns: (K,) int64, the features to keep.
    """

    left_out: str
    columns: Tensor

    def of(self, features: Tensor) -> Tensor:
        """Selects features (..., K) from (..., W)."""
        return features[..., self.columns] if self.left_out else features

    def of_pooled(self, pooled: Tensor) -> Tensor:
        """Selects pooled features (N, 2K) from (N, 2W); see `probes.labels.Pool`."""
        width = pooled.shape[1] // 2
        return torch.cat([self.of(pooled[:, :width]), self.of(pooled[:, width:])], dim=1) if self.left_out else pooled


def full_view(width: int) -> View:
    """The view of all features."""
    return View("", torch.arange(width))


def leave_one_out(width: int, columns: Mapping[str, slice]) -> list[View]:
    """One view per component, without the features of the component.

    Args:
        width: W, the width of the whole composition.
        columns: the feature columns of each component.

    >>> [(view.left_out, view.columns.tolist()) for view in leave_one_out(3, {"a": slice(0, 1), "b": slice(1, 3)})]
    [('a', [1, 2]), ('b', [0])]
    """
    views = []
    for name, part in columns.items():
        mask = torch.ones(width, dtype=torch.bool)
        mask[part] = False
        views.append(View(name, mask.nonzero().flatten()))
    return views
