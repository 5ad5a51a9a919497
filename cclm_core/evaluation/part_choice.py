"""Chooses which parts of a composition a probe reads, and how: by held-out log-loss, clean and under noise.

```
concatenation   one probe on the features of all parts
scaled          the same, with one factor per part on its standardized features: a penalty of its own
fixed           late fusion: one probe per part, and the weighted sum of their log-probabilities
```

A part that was trained on the labels that the probe predicts is too sure about the training texts, so a probe on all
features relies on it too much. The weights of late fusion come from validation texts, so they do not.

All candidates get a common factor, and for tags a bonus of all tags except O, fitted by log-loss: what counts is what a
candidate knows, not how sure it is. Losses are out of fold. The lowest loss wins; `candidates` has the other rules.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cclm_core.evaluation.candidates import MIN_FITTED, Candidate, Choice, simplest, subsets, whole_or_clearly_better
from cclm_core.evaluation.fusing import Kind, Weights, fit_with_bonus, fuse
from cclm_core.evaluation.held_out import HeldOut
from cclm_core.evaluation.metrics import Floats
from cclm_core.runtime.artifacts import rounded
from cclm_core.runtime.random import derive

Numbers = tuple[int, ...]
_FACTORS = (0.25, 0.5, 1.0, 2.0)
_FOLDS, _MIN_GROUPS = 5, 20  # with at least this many groups, each is in one fold


class Fitter(Protocol):
    """Fits probes on the training split, and scores the validation rows with them."""

    def scores(self, selections: Sequence[Numbers]) -> list[Floats]:
        """Log-probabilities (R, K) of one probe per selection of parts; each selection is fitted once."""
        ...

    def scaled_scores(self, parts: Numbers, factors: tuple[float, ...]) -> Floats | None:
        """The same for one selection with a factor per part; None if the probe has no such factors."""
        ...


@dataclass
class ProbeCandidate(Candidate):
    """A way to read some parts.

    Attributes:
        bonus: for tags, what is added to the log-probabilities of all tags except O.
        factors: of `scaled`, one per part; empty otherwise.
    """

    bonus: float = 0.0
    factors: tuple[float, ...] = ()

    @property
    def is_fused(self) -> bool:
        """Whether each part has a probe of its own."""
        return self.kind == "fixed"

    @property
    def part_weights(self) -> list[float]:
        """The weight of each part's probe; a single one for a probe that reads all of them."""
        return [float(weight) for weight in self.weights.of(np.zeros((1, 0)))[0]]


@dataclass
class ProbeChoice(Choice):
    """The chosen way to read the parts, next to all that were compared.

    Attributes:
        names: the names of the parts.
        held_out: what they were compared on.
    """

    names: tuple[str, ...] = ()
    held_out: HeldOut | None = None

    def alone(self, part: int) -> Candidate:
        """The candidate that reads one part."""
        return next(entry for entry in self.candidates if entry.parts == (part,))

    def rest(self, part: int) -> Candidate | None:
        """What is left of the chosen candidate without a part: the same kind, or else one probe on the other parts.

        None if the part is read alone.
        """
        others = tuple(number for number in self.chosen.parts if number != part)
        return self.without(part) or next((entry for entry in self.candidates if entry.parts == others), None)

    def described(self) -> dict[str, Any]:
        """The choice as JSON values: see `docs/gate.md`."""
        chosen, data = self.chosen, self.held_out
        assert isinstance(chosen, ProbeCandidate) and data is not None
        shares = chosen.part_weights if chosen.is_fused else []
        parts: dict[str, dict[str, Any]] = {}
        for number, name in enumerate(self.names):
            facts: dict[str, Any] = {"chosen": number in chosen.parts, "alone": rounded(self.alone(number).loss)}
            if number in chosen.parts:
                position = chosen.parts.index(number)
                facts |= {"weight": rounded(shares[position] / sum(shares))} if shares else {}
                facts |= {"factor": chosen.factors[position]} if chosen.factors else {}
                rest = self.rest(number)
                facts |= {"without": rounded(rest.loss)} if rest is not None else {}
            parts[name] = facts
        return {
            "validation_documents": data.number,
            "validation_groups": int(data.groups.max()) + 1,
            "chosen": self._row(chosen),
            "parts": parts,
            "candidates": [self._row(entry) for entry in self.candidates],
            "warnings": self.warnings,
        }

    def _row(self, entry: Candidate) -> dict[str, Any]:
        best = self.candidates[0]
        return {
            "parts": [self.names[part] for part in entry.parts],
            "weights": entry.kind,
            "loss": rounded(entry.loss),
            "error": rounded(best.error_of(entry)) if entry is not best else 0.0,
            **{level: rounded(-measured.value) for level, measured in entry.values.items()},
        }


def choose_parts(names: Sequence[str], data: HeldOut, fitter: Fitter, seed: int) -> ProbeChoice:
    """Chooses parts and how they are read.

    With fewer than 200 documents, nothing is fitted: one probe reads all parts, unless it is better without some of
    them by two standard errors.

    Args:
        names: the names of at least two parts.
        data: the validation documents.
        fitter: fits the probes.
        seed: of the folds.
    """
    compared = _Compared(data, fitter, seed, len(names))
    for parts in (*((part,) for part in compared.every), *compared.concatenations()):
        compared.add_joined(parts)
    if not compared.is_fitted:
        return _choice(_of_few(compared), names, data)
    for parts in subsets(compared.every, compared.add_fused):
        compared.add_fused(parts)
    compared.add_scaled()
    return _choice(simplest(compared.candidates, tolerance=0.0), names, data)


def _choice(choice: Choice, names: Sequence[str], data: HeldOut) -> ProbeChoice:
    return ProbeChoice(choice.chosen, choice.candidates, choice.warnings, tuple(names), data)


def _of_few(compared: "_Compared") -> Choice:
    ranked = sorted(compared.candidates, key=lambda entry: (entry.loss, entry.complexity))
    whole = next(entry for entry in ranked if entry.parts == compared.every)
    warning = (
        f"only {compared.data.number} validation documents, so parts are left out only if that is clearly better; it "
        f"takes {MIN_FITTED} to weight them"
    )
    return Choice(whole_or_clearly_better(whole, ranked), ranked, [warning])


class _Compared:
    """Fits candidates, each once."""

    def __init__(self, data: HeldOut, fitter: Fitter, seed: int, number: int) -> None:
        self.data, self._fitter = data, fitter
        self.every: Numbers = tuple(range(number))
        self.is_fitted = data.number >= MIN_FITTED
        self.candidates: list[Candidate] = []
        self._scores: dict[Numbers, Floats] = {}
        self._folds = _folds(data.groups, seed)

    def add_joined(self, parts: Numbers, factors: tuple[float, ...] = ()) -> float:
        """Compares one probe on the features of some parts. Returns its loss."""
        kind = "scaled" if factors else "concatenation"
        scores = self._fitter.scaled_scores(parts, factors) if factors else self._of(parts)
        assert scores is not None
        return self._add(parts, kind, scores[None], factors)

    def add_fused(self, parts: Numbers) -> float:
        """Compares the weighted sum of one probe per part. Returns its loss."""
        kind = "fixed" if len(parts) > 1 else "concatenation"
        return self._add(parts, kind, np.stack([self._of((part,)) for part in parts]), ())

    def concatenations(self) -> Iterator[Numbers]:
        """Selections of two or more parts: all parts, then without the one without which the loss is lowest, and so on.

        The selections of one step are fitted together, since that can mean reading the validation texts again.
        """
        singles: list[Numbers] = [(part,) for part in self.every]
        current, first = self.every, [*singles, self.every]
        while len(current) > 2:
            shorter = [tuple(other for other in current if other != part) for part in current]
            self._fit([*first, *shorter])
            yield from (current, *shorter) if current == self.every else shorter
            current, first = min(shorter, key=self.add_joined), []
        if current == self.every:
            self._fit(first)
            yield current

    def add_scaled(self) -> None:
        """Compares factors on the features of the parts of the best concatenation, changing one factor at a time."""
        joined = [entry for entry in self.candidates if entry.kind == "concatenation" and len(entry.parts) > 1]
        parts = min(joined, key=lambda entry: entry.loss).parts
        best = self._loss(self._of(parts)), (1.0,) * len(parts)
        for position in range(len(parts)):
            for factor in _FACTORS:
                changed = (*best[1][:position], factor, *best[1][position + 1 :])
                if len(set(changed)) == 1:  # a common factor is the penalty
                    continue
                if (scores := self._fitter.scaled_scores(parts, changed)) is None:
                    return
                best = min(best, (self._loss(scores), changed))
        if len(set(best[1])) > 1:
            self.add_joined(parts, best[1])

    def _loss(self, scores: Floats) -> float:
        return float(self.data.losses(scores)[0].mean())

    def _of(self, parts: Numbers) -> Floats:
        self._fit([parts])
        return self._scores[parts]

    def _fit(self, selections: Sequence[Numbers]) -> None:
        new = [parts for parts in selections if parts not in self._scores]
        if new:
            self._scores.update(zip(new, self._fitter.scores(new), strict=True))

    def _add(self, parts: Numbers, kind: str, scores: Floats, factors: tuple[float, ...]) -> float:
        same = next((entry for entry in self.candidates if (entry.parts, entry.kind) == (parts, kind)), None)
        if same is None:
            same = self._candidate(parts, kind, scores, factors)
            self.candidates.append(same)
        return same.loss

    def _candidate(self, parts: Numbers, kind: str, scores: Floats, factors: tuple[float, ...]) -> ProbeCandidate:
        data, rows = self.data, self.data.rows(scores)
        if not self.is_fitted:
            own, values = data.losses(scores[0])
            weights, bonus = Weights(kind="equal", bias=(0.0,)), 0.0
        else:
            way: Kind = "equal" if len(scores) == 1 else "fixed"
            tags = data.task == "tag"
            weights, bonus = fit_with_bonus(data.task, way, rows, with_bonus=tags)
            joined = np.empty(scores.shape[1:])
            for fold in range(self._folds.max() + 1):
                held_out = data.of_documents(self._folds == fold)
                fitted, added = fit_with_bonus(data.task, way, rows.of_texts(~held_out), weights, with_bonus=tags)
                selected = held_out[rows.owners]
                joined[selected] = _joined(data, scores[:, selected], fitted, added)
            own, values = data.losses(joined)
        return ProbeCandidate(parts, kind, weights, own, values, dict(data.level_weights), data.groups, bonus, factors)


def _joined(data: HeldOut, scores: Floats, weights: Weights, bonus: float) -> Floats:
    """Joined log-probabilities (R, K) of scores (P, R, K)."""
    one = weights.of(np.zeros((1, 0)))
    joined = fuse(data.task, scores, np.broadcast_to(one, (scores.shape[1], len(scores))))
    joined[:, 1:] += bonus
    return fuse(data.task, joined[None], np.ones((len(joined), 1)))


def _folds(groups: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """The fold of each document, (G,): documents of a group share it if there are many groups.

    With a few groups, leaving out one of them can leave out a label: each of three plays can have a genre of its own.
    """
    if int(groups.max()) + 1 < _MIN_GROUPS:
        groups = np.arange(len(groups))
    number = int(groups.max()) + 1
    folds: npt.NDArray[np.int64] = derive(seed, "folds").permutation(number) % min(_FOLDS, number)
    return folds[groups]
