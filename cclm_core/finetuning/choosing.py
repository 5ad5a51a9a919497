"""Chooses which parts of an ensemble are used, and how they are weighted, on validation texts.

Candidates are subsets of the parts, each with the three kinds of weights of `fusing`. Their losses are compared by
cross-validation over the texts; all copies of a text are in one fold. Of the candidates within one standard error of
the best one, the simplest wins: the fewest parts, then the simplest weights (Breiman et al. 1984). It must not be worse
than the best single part: not in the mean over the levels of noise, and on no level beyond a confidence interval.

With few validation texts, nothing is fitted: all parts get equal weights, unless a subset is better by two standard
errors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from cclm_core.evaluation.metrics import Bootstrap, Measurement
from cclm_core.evaluation.selection import CLEAN
from cclm_core.finetuning.any_model import Floats
from cclm_core.finetuning.fusing import KINDS, Kind, Weights, fit, fuse, losses
from cclm_core.finetuning.validation import Validation
from cclm_core.runtime.random import derive

MIN_FITTED, MIN_CHOSEN = 200, 20
"""Validation texts from which weights are fitted, and from which parts may be left out."""
MAX_EXACT = 6
"""Parts up to which all subsets are compared."""
_FOLDS = 5
_GATE = Bootstrap(resamples=300, confidence=0.95)


@dataclass
class Candidate:
    """A subset of parts with one kind of weights, and what it is worth on the validation texts.

    Attributes:
        parts: numbers of the parts, ascending.
        kind: the kind of weights.
        weights: fitted on all validation texts.
        losses: (G,) loss of each text, out of fold, weighted over its copies.
        values: level -> the main metric, out of fold.
        level_weights: level -> its weight in `value`.
    """

    parts: tuple[int, ...]
    kind: Kind
    weights: Weights
    losses: Floats
    values: dict[str, Measurement]
    level_weights: dict[str, float]

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
        return len(self.parts), KINDS.index(self.kind)

    def error_of(self, other: "Candidate") -> float:
        """The standard error of the difference of the losses of two candidates on the same texts."""
        difference = self.losses - other.losses
        return float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("inf")


@dataclass
class Choice:
    """The result: the chosen candidate, all candidates, and remarks.

    Attributes:
        chosen: what the ensemble uses.
        candidates: all that were compared, best loss first; empty if nothing was compared.
        warnings: what makes the choice less sure than it looks, one sentence each.
    """

    chosen: Candidate
    candidates: list[Candidate]
    warnings: list[str] = field(default_factory=list)

    def without(self, part: int) -> Candidate | None:
        """The candidate without one of the chosen parts, with the same kind of weights; None if it was not compared."""
        parts = tuple(number for number in self.chosen.parts if number != part)
        kind = "equal" if len(parts) == 1 else self.chosen.kind
        return next((other for other in self.candidates if (other.parts, other.kind) == (parts, kind)), None)


def choose(validation: Validation, kinds: Sequence[Kind], subsets: bool, seed: int) -> Choice:
    """Chooses parts and weights.

    Args:
        validation: at least one text, with the scores of P parts.
        kinds: the kinds of weights to compare, the simplest first.
        subsets: whether parts may be left out.
        seed: of the folds.
    """
    every = tuple(range(len(validation.rows.scores)))
    if validation.number < MIN_FITTED:
        return _choose_few(validation, every, subsets and validation.number >= MIN_CHOSEN)
    compared = _Compared(validation, kinds, seed)
    for parts in _subsets(every, compared) if subsets else (every,):
        compared.add(parts)
    if subsets:
        return _choose(compared.candidates)
    for part in every:  # only to compare with
        compared.add((part,))
    return _choose(compared.candidates, [entry for entry in compared.candidates if entry.parts == every])


class _Compared:
    """Fits candidates, each once."""

    def __init__(self, validation: Validation, kinds: Sequence[Kind], seed: int) -> None:
        self.validation, self.kinds = validation, tuple(kinds)
        self.candidates: list[Candidate] = []
        number = min(_FOLDS, validation.number)
        self._folds = derive(seed, "folds").permutation(validation.number) % number

    def add(self, parts: tuple[int, ...]) -> float:
        """Compares a subset with every kind of weights. Returns its lowest loss."""
        if not any(entry.parts == parts for entry in self.candidates):
            # One part needs no weights but a common factor.
            kinds = self.kinds if len(parts) > 1 else KINDS[:1]
            self.candidates += [self._candidate(parts, kind) for kind in kinds]
        return min(entry.loss for entry in self.candidates if entry.parts == parts)

    def _candidate(self, parts: tuple[int, ...], kind: Kind) -> Candidate:
        task, rows = self.validation.task, self.validation.rows.of_parts(parts)
        weights = fit(task, kind, rows)
        joined, folds = np.zeros(rows.scores.shape[1:]), self._folds[self.validation.groups]
        for fold in range(folds.max() + 1):
            held_out = folds == fold
            own = fit(task, kind, rows.of_texts(~held_out), weights)
            selected = held_out[rows.owners]
            joined[selected] = fuse(task, rows.scores[:, selected], own.of(rows.measures)[rows.owners[selected]])
        return _measured(self.validation, parts, kind, weights, joined)


def _choose(candidates: list[Candidate], eligible: list[Candidate] | None = None) -> Choice:
    """The simplest of the candidates that are as good as the best one, and not worse than the best single part."""
    ranked = sorted(candidates, key=lambda entry: (entry.loss, entry.complexity))
    allowed = [entry for entry in ranked if eligible is None or entry in eligible]
    singles = [entry for entry in candidates if len(entry.parts) == 1]
    best = allowed[0]
    near = sorted(
        (entry for entry in allowed if entry.loss <= best.loss + (best.error_of(entry) if entry is not best else 0)),
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


def _is_worse(candidate: Candidate, singles: Sequence[Candidate]) -> bool:
    """Whether the best single part is better in the mean, or on a level beyond its confidence interval."""
    if candidate.value < max(single.value for single in singles) - 1e-12:
        return True
    for level, own in candidate.values.items():
        best = max((single.values[level] for single in singles), key=lambda measured: measured.value)
        if own.value < best.value and (interval := _GATE.interval(best.loss_without(own), 1)) and interval[0] > 0:
            return True
    return False


def _choose_few(validation: Validation, every: tuple[int, ...], subsets: bool) -> Choice:
    """Equal weights without fitting; parts are left out only with clear evidence."""
    tried = [every]
    if subsets:
        tried += [parts for size in range(1, len(every)) for parts in combinations(every, size)][: 2**MAX_EXACT]
    candidates = [_even(validation, parts) for parts in tried]
    whole = candidates[0]
    better = [entry for entry in candidates[1:] if entry.loss < whole.loss - 2 * entry.error_of(whole)]
    chosen = min(better, key=lambda entry: entry.loss, default=whole)
    warning = f"only {validation.number} validation texts, so weights are equal and not fitted; it takes {MIN_FITTED}"
    return Choice(chosen, sorted(candidates, key=lambda entry: entry.loss), [warning])


def _even(validation: Validation, parts: tuple[int, ...]) -> Candidate:
    rows, weights = validation.rows.of_parts(parts), Weights.even(len(parts))
    joined = fuse(validation.task, rows.scores, weights.of(rows.measures)[rows.owners])
    return _measured(validation, parts, "equal", weights, joined)


def _measured(
    validation: Validation, parts: tuple[int, ...], kind: Kind, weights: Weights, joined: Floats
) -> Candidate:
    rows = validation.rows
    shape = len(validation.copies), validation.number
    per_copy = losses(validation.task, joined, rows).reshape(shape)
    share = rows.weights.reshape(shape)
    own = (per_copy * share).sum(0) / share.sum(0)
    return Candidate(parts, kind, weights, own, validation.measure(joined), validation.level_weights)


def _subsets(every: tuple[int, ...], compared: _Compared) -> Iterator[tuple[int, ...]]:
    """All subsets, or with many parts those on the way of a greedy search: the best part, then one more at a time."""
    if len(every) <= MAX_EXACT:
        for size in range(1, len(every) + 1):
            yield from combinations(every, size)
        return
    singles: list[tuple[int, ...]] = [(part,) for part in every]
    current = min(singles, key=compared.add)
    yield from singles
    while len(current) < len(every):
        longer = [tuple(sorted((*current, part))) for part in every if part not in current]
        yield from longer
        best = min(longer, key=compared.add)
        if compared.add(best) >= compared.add(current):
            return
        current = best
