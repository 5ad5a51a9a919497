"""Which components a label probe reads, and how: by held-out log-loss, clean and under noise."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from cclm_core.evaluation.held_out import HeldOut
from cclm_core.evaluation.label_models import LabelsFitter
from cclm_core.evaluation.part_choice import ProbeCandidate, ProbeChoice, choose_parts
from cclm_core.evaluation.views import Parts

LABELS = ("a", "b", "c")
LEVELS = {"clean": 0.5, "noise_0.1": 0.5}
WIDTH = 4
Part = tuple[float, float, float, float]
"""How strongly a part shows a label, and in which share of the documents it is the right one: in training, in clean and
in noised held-out documents. Otherwise it is a random one."""


def features(parts: Sequence[Part], level: int, targets: np.ndarray, generator: np.random.Generator) -> Tensor:
    """Pooled features (N, 2 · parts · WIDTH): the first half shows the label, the second half is noise."""
    blocks = []
    for strength, *shares in parts:
        is_right = generator.random(len(targets)) < shares[level]
        shown = np.where(is_right, targets, generator.integers(3, size=len(targets)))
        blocks.append(np.eye(WIDTH)[shown] * strength + generator.normal(size=(len(targets), WIDTH)))
    rest = generator.normal(size=(len(targets), WIDTH * len(parts)))
    return torch.from_numpy(np.concatenate([*blocks, rest], axis=1)).float()


class Problem:
    """Parts that show a label, with training, validation and test documents."""

    def __init__(self, parts: Sequence[Part], number: int = 400, groups: int = 8) -> None:
        generator = np.random.default_rng(3)
        self.names = tuple("xyz"[: len(parts)])
        columns = {name: slice(row * WIDTH, (row + 1) * WIDTH) for row, name in enumerate(self.names)}
        train, held_out, self.gold = (generator.integers(3, size=size) for size in (300, number, 2000))
        self.test = [features(parts, level, self.gold, generator) for level in (1, 2)]
        self.data = HeldOut("classify", LEVELS, np.tile(held_out, 2), np.arange(2 * number), np.arange(number) % groups)
        self.fitter = LabelsFitter(
            Parts(WIDTH * len(parts), columns),
            features(parts, 0, train, generator),
            [LABELS[label] for label in train],
            torch.cat([features(parts, level, held_out, generator) for level in (1, 2)]),
            self.data,
            (1e-3, 1e-2),
        )

    def choose(self) -> ProbeChoice:
        return choose_parts(self.names, self.data, self.fitter, seed=1)

    def accuracies(self, entry: object) -> list[float]:
        """Accuracy on clean and on noised test documents."""
        assert isinstance(entry, ProbeCandidate)
        gold = np.array([LABELS[label] for label in self.gold])
        return [float((np.array(self.fitter.model(entry).predict(pooled)) == gold).mean()) for pooled in self.test]


GOOD: Part = (1.5, 1, 1, 0.9)
NOISE: Part = (0, 0, 0, 0)
OVERCONFIDENT: Part = (4, 1, 0.4, 0.3)
"""Trained on the labels: always sure, and always right in training documents only."""


def test_a_part_of_noise_is_not_read() -> None:
    choice = Problem([GOOD, NOISE, GOOD]).choose()
    assert choice.chosen.parts == (0, 2)
    described = choice.described()
    assert described["chosen"]["parts"] == ["x", "z"]
    assert [described["parts"][name]["chosen"] for name in "xyz"] == [True, False, True]
    assert described["parts"]["x"]["without"] > described["chosen"]["loss"]
    assert len(described["candidates"]) == len(choice.candidates) and described["validation_groups"] == 8
    own = [described["chosen"][level] for level in LEVELS]
    assert described["chosen"]["loss"] == pytest.approx(np.mean(own), rel=1e-4)


def test_an_overconfident_part_gets_less_weight_than_one_probe_on_all_features_gives_it() -> None:
    problem = Problem([OVERCONFIDENT, GOOD])
    choice = problem.choose()
    joined = next(entry for entry in choice.candidates if (entry.parts, entry.kind) == ((0, 1), "concatenation"))
    weighted = next(entry for entry in choice.candidates if entry.kind == "fixed")
    assert isinstance(weighted, ProbeCandidate) and weighted.loss < joined.loss - 2 * joined.error_of(weighted)
    overconfident, honest = weighted.part_weights
    assert overconfident < honest / 3
    assert choice.chosen.loss <= weighted.loss + choice.candidates[0].error_of(choice.chosen)
    assert min(np.subtract(problem.accuracies(choice.chosen), problem.accuracies(joined))) > 0.02


def test_the_composition_is_not_worse_than_its_best_part_clean_and_under_noise() -> None:
    for parts in ([GOOD, NOISE, NOISE], [OVERCONFIDENT, GOOD, NOISE], [GOOD, (1.5, 1, 1, 0)]):
        problem = Problem(parts)
        choice = problem.choose()
        best = max((problem.accuracies(choice.alone(part)) for part in range(len(parts))), key=sum)
        assert min(np.subtract(problem.accuracies(choice.chosen), best)) > -0.01, parts


def test_a_choice_is_reproducible() -> None:
    first, second = (Problem([OVERCONFIDENT, GOOD]).choose() for _ in range(2))
    assert first.described() == second.described()


def test_with_few_documents_parts_are_left_out_only_if_that_is_clearly_better() -> None:
    choice = Problem([GOOD, GOOD, GOOD], number=60).choose()
    assert choice.chosen.parts == (0, 1, 2) and choice.chosen.kind == "concatenation"
    assert "only 60 validation documents" in choice.warnings[0]


def test_a_gain_in_one_group_is_not_clear() -> None:
    """With documents of few plays, the error of a difference is that between plays, if it is larger."""
    choice = Problem([GOOD, GOOD], groups=3).choose()
    first, second = choice.candidates[:2]
    between_documents = float((first.losses - second.losses).std(ddof=1) / np.sqrt(400))
    assert first.error_of(second) >= between_documents
    second.losses = first.losses + (first.groups == 0)
    assert first.error_of(second) > 3 * between_documents
