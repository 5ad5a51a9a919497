"""Candidates of which parts are used and how they are weighted, and the rule that chooses one of them.

Of the candidates within a tolerance of the best one, by default one standard error, the simplest wins: the fewest
parts, then the simplest kind of weights (Breiman et al. 1984). It must not be worse than the best single part: not in
the mean over the levels of noise, and on no level beyond a confidence interval.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

from cclm_core.evaluation.fusing import KINDS, Weights
from cclm_core.evaluation.metrics import Bootstrap, Floats, Measurement
from cclm_core.evaluation.selection import CLEAN

MIN_FITTED, MIN_CHOSEN = 200, 20
"""Validation texts from which weights are fitted, and from which parts may be left out."""
MAX_EXACT = 6
"""Parts up to which all subsets are compared."""
_COMPLEXITY = ("concatenation", "scaled", *KINDS)
_GATE = Bootstrap(resamples=300, confidence=0.95)


@dataclass
class Candidate:
    """A subset of parts with one kind of weights, and what it is worth on the validation texts.

    Attributes:
        parts: numbers of the parts, ascending.
        kind: the kind of weights, or `concatenation` or `scaled` for a probe that reads the features of all parts.
        weights: fitted on all validation texts.
        losses: (G,) loss of each text, out of fold, weighted over its copies.
        values: level -> the main metric, out of fold.
        level_weights: level -> its weight in `value`.
        groups: (G,) the number of the group of each text, such as the play that it is from;
            None: texts are independent.
    """

    parts: tuple[int, ...]
    kind: str
    weights: Weights
    losses: Floats
    values: dict[str, Measurement]
    level_weights: dict[str, float]
    groups: npt.NDArray[np.int64] | None = None

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())

    @property
    def value(self) -> float:
        """The main metric, the mean over the levels."""
        return sum(weight * self.values[level].value for level, weight in self.level_weights.items())

    @property
    def noised_value(self) -> float:
        """The mean of the main metric over the noised levels; of the clean one if there are none."""
        levels = [level for level in self.values if level != CLEAN] or [CLEAN]
        return sum(self.values[level].value for level in levels) / len(levels)

    @property
    def complexity(self) -> tuple[int, int]:
        """Number of parts, then the kind of weights."""
        return len(self.parts), _COMPLEXITY.index(self.kind)

    def error_of(self, other: "Candidate") -> float:
        """The standard error of the difference of the losses of two candidates on the same texts.

        Texts of one group are alike: what helps with one play may not help with the next one. With several groups, this
        is the larger one of the error between texts and that between groups. The latter is right for many groups; with
        a few, it can be small by chance.
        """
        difference = self.losses - other.losses
        number = len(difference)
        if number < 2:
            return float("inf")
        error = float(difference.std(ddof=1) / np.sqrt(number))
        if self.groups is None or len(sums := np.bincount(self.groups, difference)) < 2:
            return error
        return max(error, float(sums.std(ddof=1) * np.sqrt(len(sums)) / number))


@dataclass
class Choice:
    """The result: the chosen candidate, all candidates, and remarks.

    Attributes:
        chosen: what is used.
        candidates: all that were compared, best loss first; empty if nothing was compared.
        warnings: what makes the choice less sure than it looks, one sentence each.
    """

    chosen: Candidate
    candidates: list[Candidate]
    warnings: list[str] = field(default_factory=list)

    def without(self, part: int) -> Candidate | None:
        """The candidate without one of the chosen parts, with the same kind of weights; None if it was not compared.

        A single part has only one kind.
        """
        parts = tuple(number for number in self.chosen.parts if number != part)
        same = [other for other in self.candidates if other.parts == parts]
        return next((other for other in same if len(parts) == 1 or other.kind == self.chosen.kind), None)


def simplest(
    candidates: Sequence[Candidate], eligible: Sequence[Candidate] | None = None, tolerance: float = 1.0
) -> Choice:
    """Chooses the simplest of the candidates that are as good as the best one, and not worse than the best single part.

    Args:
        candidates: among them each part alone.
        eligible: those that can be chosen; None: all.
        tolerance: how many standard errors above the lowest loss are as good as the best one.
    """
    ranked = sorted(candidates, key=lambda entry: (entry.loss, entry.complexity))
    allowed = [entry for entry in ranked if eligible is None or entry in eligible]
    singles = [entry for entry in candidates if len(entry.parts) == 1]
    best = allowed[0]
    near = sorted(
        (entry for entry in allowed if entry is best or entry.loss <= best.loss + tolerance * best.error_of(entry)),
        key=lambda entry: (entry.complexity, entry.loss),
    )
    rest = [entry for entry in allowed if not any(entry is other for other in near)]
    for entry in [*near, *rest]:
        if not _is_worse(entry, singles):
            return Choice(entry, ranked)
    warning = (
        "no combination is as good as the best part on every level of noise of the validation texts; the part with the "
        "best mean is used"
    )
    if eligible is not None:
        return Choice(near[0], ranked, [warning.rpartition(";")[0]])
    return Choice(max(singles, key=lambda entry: entry.value), ranked, [warning])


def whole_or_clearly_better(whole: Candidate, candidates: Sequence[Candidate]) -> Candidate:
    """Returns the best candidate if it beats `whole` by two standard errors, and `whole` otherwise.

    The best one is the one with the lowest loss among those that do. This is the rule for few texts, where nothing is
    fitted.
    """
    better = [entry for entry in candidates if entry.loss < whole.loss - 2 * entry.error_of(whole)]
    return min(better, key=lambda entry: (entry.loss, entry.complexity), default=whole)


def _is_worse(candidate: Candidate, singles: Sequence[Candidate]) -> bool:
    """Whether the best single part is better in the mean, or on a level beyond its confidence interval."""
    if candidate.value < max(single.value for single in singles) - 1e-12:
        return True
    for level, own in candidate.values.items():
        best = max((single.values[level] for single in singles), key=lambda measured: measured.value)
        if own.value < best.value and (interval := _GATE.interval(best.loss_without(own), 1)) and interval[0] > 0:
            return True
    return False


def subsets(every: tuple[int, ...], loss: Callable[[tuple[int, ...]], float]) -> Iterator[tuple[int, ...]]:
    """All subsets, or with many parts those on the way of a greedy search: the best part, then one more at a time.

    Args:
        every: numbers of the parts.
        loss: the loss of a subset, which the greedy search asks for.
    """
    if len(every) <= MAX_EXACT:
        for size in range(1, len(every) + 1):
            yield from combinations(every, size)
        return
    singles: list[tuple[int, ...]] = [(part,) for part in every]
    current = min(singles, key=loss)
    yield from singles
    while len(current) < len(every):
        longer = [tuple(sorted((*current, part))) for part in every if part not in current]
        yield from longer
        best = min(longer, key=loss)
        if loss(best) >= loss(current):
            return
        current = best
