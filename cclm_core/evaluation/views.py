"""Views of the features of a composition: those of some of its parts.

Each probe reads the parts that are best on the validation split: a part that does not help is noise for a linear probe,
so a composition should not be worse than a part of it. `part_choice` chooses them for labels and tags.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class View(NamedTuple):
    """A selection of features to fit a probe on.

    Attributes:
        left_out: the component whose contribution this view measures, by leaving it out; "" for the view of the probe.
        columns: (K,) int64, the features to keep.
        read: names of the components that have these features; empty if the fusion mixes their features.
        width: W, the number of all features.
    """

    left_out: str
    columns: Tensor
    read: tuple[str, ...]
    width: int

    @property
    def is_full(self) -> bool:
        """Whether all features are kept."""
        return len(self.columns) == self.width

    def of(self, features: Tensor) -> Tensor:
        """Selects features (..., K) from (..., W)."""
        return features if self.is_full else features[..., self.columns]

    def of_pooled(self, pooled: Tensor) -> Tensor:
        """Selects pooled features (N, 2K) from (N, 2W); see `probes.labels.Pool`."""
        if self.is_full:
            return pooled
        return torch.cat([self.of(pooled[:, : self.width]), self.of(pooled[:, self.width :])], dim=1)


Score = Callable[[Sequence[View]], Sequence[float] | None]
"""Fits a probe for each view, and returns how good each is on the validation split, higher is better; None if there is
no validation text."""


class Parts(NamedTuple):
    """The features of a composition and the components that they belong to.

    Attributes:
        width: W, the number of features.
        columns: component -> its features; empty if there is one component, or the fusion mixes their features.
        selected: whether probes may leave out components that do not help.
    """

    width: int
    columns: Mapping[str, slice] = {}
    selected: bool = True

    @property
    def choosable(self) -> tuple[str, ...]:
        """The components that probes choose from; empty if they read all of them."""
        return tuple(self.columns) if self.selected and len(self.columns) > 1 else ()

    def view(self, read: Sequence[str], left_out: str = "") -> View:
        """The view of some components."""
        if len(read) == len(self.columns):
            return View(left_out, torch.arange(self.width), tuple(read), self.width)
        kept = [torch.arange(self.width)[self.columns[name]] for name in read]
        return View(left_out, torch.cat(kept).sort().values, tuple(read), self.width)

    def views(self, score: Score) -> list[View]:
        """The view that a probe should read, then one per component: the same view without the component.

        Starts with all components. As long as the probe gets better without one of them, the one without which it is
        best is left out. A component that is not read changes nothing, so its view is that of the probe. A component
        that is read alone has no view, because nothing would be left.

        Args:
            score: called once or more with new views. Every view in the result was passed to it, except that
                `left_out` may differ.
        """
        read = tuple(self.columns)
        scores = score([self.view(read)])
        best = scores[0] if scores else 0.0
        while len(read) > 1:
            without = [self.view([name for name in read if name != left_out], left_out) for left_out in read]
            rest = score(without)
            if rest is None or not self.selected or max(rest) <= best:
                break
            best = max(rest)
            read = without[rest.index(best)].read
        return self._with_rests(read)

    def all_views(self) -> list[View]:
        """The view of all components, then one without each of them."""
        return self._with_rests(tuple(self.columns))

    def _with_rests(self, read: tuple[str, ...]) -> list[View]:
        """The view of the components that are read, then one without each component; see `views`."""
        own = self.view(read)
        views = [own]
        for name in self.columns:
            if name not in read:
                views.append(own._replace(left_out=name))
            elif len(read) > 1:
                views.append(self.view([other for other in read if other != name], name))
        return views
