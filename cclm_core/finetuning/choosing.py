"""Chooses which parts of an ensemble are used, and how they are weighted, on validation texts.

Candidates are subsets of the parts, each with the three kinds of weights of `evaluation.fusing`. Their losses are
compared by cross-validation over the texts; all copies of a text are in one fold. `evaluation.candidates` has the rule.

With few validation texts, nothing is fitted: all parts get equal weights, unless a subset is better by two standard
errors.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from cclm_core.evaluation.candidates import (
    MAX_EXACT,
    MIN_CHOSEN,
    MIN_FITTED,
    Candidate,
    Choice,
    simplest,
    subsets,
    whole_or_clearly_better,
)
from cclm_core.evaluation.fusing import KINDS, Kind, Weights, fit, fuse, losses
from cclm_core.finetuning.any_model import Floats
from cclm_core.finetuning.validation import Validation
from cclm_core.runtime.random import derive

_FOLDS = 5


def choose(validation: Validation, kinds: Sequence[Kind], leave_out: bool, seed: int) -> Choice:
    """Chooses parts and weights.

    Args:
        validation: at least one text, with the scores of P parts.
        kinds: the kinds of weights to compare, the simplest first.
        leave_out: whether parts may be left out.
        seed: of the folds.
    """
    every = tuple(range(len(validation.rows.scores)))
    if validation.number < MIN_FITTED:
        return _choose_few(validation, every, leave_out and validation.number >= MIN_CHOSEN)
    compared = _Compared(validation, kinds, seed)
    for parts in subsets(every, compared.add) if leave_out else (every,):
        compared.add(parts)
    if leave_out:
        return simplest(compared.candidates)
    for part in every:  # only to compare with
        compared.add((part,))
    return simplest(compared.candidates, [entry for entry in compared.candidates if entry.parts == every])


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


def _choose_few(validation: Validation, every: tuple[int, ...], leave_out: bool) -> Choice:
    """Equal weights without fitting; parts are left out only with clear evidence."""
    tried = [every]
    if leave_out:
        tried += [parts for size in range(1, len(every)) for parts in combinations(every, size)][: 2**MAX_EXACT]
    candidates = [_even(validation, parts) for parts in tried]
    chosen = whole_or_clearly_better(candidates[0], candidates)
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
