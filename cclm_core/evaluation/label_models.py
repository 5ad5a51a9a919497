"""Linear probes for the labels of documents: fitted, selected and joined."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cclm_core.evaluation.candidates import Candidate
from cclm_core.evaluation.held_out import HeldOut
from cclm_core.evaluation.linear_probe import PenalizedProbe, fit_penalized
from cclm_core.evaluation.metrics import Floats
from cclm_core.evaluation.part_choice import Numbers, ProbeCandidate
from cclm_core.evaluation.views import Parts, View


class LabelMember(NamedTuple):
    """A probe, the features that it reads, and its penalty."""

    view: View
    probe: PenalizedProbe
    penalty: float

    def log_probabilities(self, pooled: Tensor) -> Tensor:
        """Log-probabilities (N, C) from pooled features (N, 2W) of the whole composition."""
        return self.probe.log_probabilities(self.view.of_pooled(pooled))


class LabelModel(NamedTuple):
    """One probe, or the weighted sum of the log-probabilities of several ones with the same labels."""

    members: tuple[LabelMember, ...]
    weights: tuple[float, ...]

    def predict(self, pooled: Tensor) -> list[str]:
        """The label of each row of pooled features (N, 2W) of the whole composition."""
        scores = [member.log_probabilities(pooled) * weight for member, weight in zip(*self, strict=True)]
        labels = self.members[0].probe.labels
        return [labels[number] for number in torch.stack(scores).sum(dim=0).argmax(dim=1).tolist()]


class LabelsFitter:
    """Fits label probes on some components; a `part_choice.Fitter`.

    Args:
        parts: the components and their features.
        pooled: (N, 2W), pooled features of the training documents.
        labels: (N,) their labels.
        held_out: (R, 2W), those of the validation documents at all levels of noise.
        data: what is right in them.
        penalties: L2 strengths to select from, by the loss on `data`.
    """

    def __init__(
        self,
        parts: Parts,
        pooled: Tensor,
        labels: Sequence[str],
        held_out: Tensor,
        data: HeldOut,
        penalties: Sequence[float],
    ) -> None:
        self._parts, self._pooled, self._labels = parts, pooled, labels
        self._held_out, self._data, self._penalties = held_out, data, sorted(penalties)
        self._members: dict[tuple[Numbers, tuple[float, ...]], LabelMember] = {}

    def scores(self, selections: Sequence[Numbers]) -> list[Floats]:
        """See `Fitter.scores`."""
        return [self._best(selection) for selection in selections]

    def scaled_scores(self, parts: Numbers, factors: tuple[float, ...]) -> Floats:
        """See `Fitter.scaled_scores`. The penalty is that of equal factors."""
        key = parts, factors
        if key not in self._members:
            self._members[key] = self._fit(parts, self._members[parts, ()].penalty, factors)
        return self._log_probabilities(self._members[key])

    def model(self, candidate: Candidate) -> LabelModel:
        """The model of a candidate whose probes were fitted."""
        assert isinstance(candidate, ProbeCandidate)
        if candidate.is_fused:
            members = tuple(self._members[(part,), ()] for part in candidate.parts)
        else:
            members = (self._members[candidate.parts, candidate.factors],)
        return LabelModel(members, tuple(candidate.part_weights))

    def _best(self, parts: Numbers) -> Floats:
        members = [self._fit(parts, penalty, ()) for penalty in self._penalties]
        scores = [self._log_probabilities(member) for member in members]
        losses = [float(self._data.losses(own)[0].mean()) for own in scores]
        best = int(np.argmin(losses))
        self._members[parts, ()] = members[best]
        return scores[best]

    def _fit(self, parts: Numbers, penalty: float, factors: tuple[float, ...]) -> LabelMember:
        names = tuple(self._parts.columns)
        view, per_column = self._parts.view([names[part] for part in parts]), None
        if factors:
            every = torch.ones(self._parts.width)
            for part, factor in zip(parts, factors, strict=True):
                every[self._parts.columns[names[part]]] = factor
            per_column = view.of_pooled(every.repeat(1, 2))[0]
        probe = fit_penalized(view.of_pooled(self._pooled), self._labels, penalty, per_column)
        return LabelMember(view, probe, penalty)

    def _log_probabilities(self, member: LabelMember) -> Floats:
        return member.log_probabilities(self._held_out).numpy()


class FittedLabels(NamedTuple):
    """A probe for labels.

    Attributes:
        probe: the probe.
        penalty: its penalty.
        loss: its mean cross-entropy on held-out documents, in nats; None if there are none.
    """

    probe: PenalizedProbe
    penalty: float
    loss: float | None


def fit_labels(
    pooled: Tensor,
    labels: Sequence[str],
    held_out: Tensor,
    held_out_labels: Sequence[str],
    penalties: Sequence[float],
) -> FittedLabels:
    """Fits one probe per penalty on `pooled` (N, W), and selects the one with the lowest loss on `held_out` (M, W).

    If no held-out document has a label of the training documents, the middle penalty is used.
    """
    columns = {label: column for column, label in enumerate(sorted(set(labels)))}
    rows = [row for row, label in enumerate(held_out_labels) if label in columns]
    targets = torch.tensor([columns[held_out_labels[row]] for row in rows], dtype=torch.int64)
    ordered = sorted(penalties)
    if not rows:
        middle = ordered[len(ordered) // 2]
        return FittedLabels(fit_penalized(pooled, labels, middle), middle, None)
    fitted = {penalty: fit_penalized(pooled, labels, penalty) for penalty in ordered}

    losses = {
        penalty: float(torch.nn.functional.nll_loss(probe.log_probabilities(held_out[rows]), targets))
        for penalty, probe in fitted.items()
    }
    best = min(ordered, key=lambda penalty: losses[penalty])
    return FittedLabels(fitted[best], best, losses[best])
