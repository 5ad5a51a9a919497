"""What an ensemble uses: parts and weights are chosen on validation texts, clean and noised."""

from collections.abc import Sequence

import numpy as np
import pytest

from cclm_core.evaluation.candidates import Choice
from cclm_core.evaluation.fusing import KINDS, Kind, Rows, Weights, _Problem, fit, fit_with_bonus, fuse, losses
from cclm_core.finetuning.any_model import Floats, Texts
from cclm_core.finetuning.choosing import choose
from cclm_core.finetuning.validation import Validation
from cclm_core.labeled.examples import LabeledText

LABELS = ("a", "b", "c", "d")
LEVELS = ("clean", "noise_0.1", "noise_0.2")


def validation(accuracies: Sequence[Sequence[float]], number: int = 400, copied: bool = False) -> Validation:
    """Synthetic parts.

    Args:
        accuracies: for each part, how often it is right on each level. Wrong answers are less sure than right ones.
        number: texts per level.
        copied: the second part is a copy of the first one.
    """
    generator = np.random.default_rng(1)
    gold = generator.integers(len(LABELS), size=number)
    targets, owners = np.tile(gold, len(LEVELS)), np.arange(number * len(LEVELS))
    scores = []
    for part in accuracies:
        is_right = np.concatenate([generator.random(number) < accuracy for accuracy in part])
        wrong = (targets + generator.integers(1, len(LABELS), size=len(targets))) % len(LABELS)
        rows = generator.normal(0, 0.5, size=(len(targets), len(LABELS)))
        rows[np.arange(len(targets)), np.where(is_right, targets, wrong)] += np.where(is_right, 2.5, 1.2)
        scores.append(rows - np.log(np.exp(rows).sum(1, keepdims=True)))
    if copied:
        scores[1] = scores[0]
    level = np.repeat(np.arange(len(LEVELS)), number)
    measures = np.stack([level + generator.normal(0, 0.2, len(level)), generator.normal(size=len(level))], axis=1)
    weights = np.where(level == 0, 0.5, 0.25)
    texts = [LabeledText(str(row), "x", label=LABELS[label]) for row, label in enumerate(gold)]
    read = dict.fromkeys(LEVELS, Texts(["x"] * number))
    rows_of_all = Rows(np.stack(scores), targets, owners, measures, weights)
    return Validation("classify", LABELS, 0.5, dict.fromkeys(LEVELS, texts), read, rows_of_all)


def chosen(data: Validation, kinds: Sequence[Kind] = KINDS, subsets: bool = True) -> Choice:
    return choose(data, kinds, subsets, seed=1)


def test_a_part_for_clean_and_a_part_for_noised_texts_get_weights_by_text() -> None:
    data = validation([(0.95, 0.4, 0.3), (0.6, 0.8, 0.85)])
    choice = chosen(data)
    assert choice.chosen.parts == (0, 1) and choice.chosen.kind == "by_text" and not choice.warnings
    weights = choice.chosen.weights.of(data.rows.measures)
    share = (weights[:, 0] / weights.sum(1)).reshape(len(LEVELS), -1).mean(1)
    assert share[0] > 0.6 and share[2] < 0.4
    by_kind = {entry.kind: entry.value for entry in choice.candidates if entry.parts == (0, 1)}
    assert by_kind["by_text"] > by_kind["fixed"] + 0.02
    best = max(entry.value for entry in choice.candidates if len(entry.parts) == 1)
    assert choice.chosen.value > best + 0.05


def test_a_useless_part_is_left_out() -> None:
    choice = chosen(validation([(0.9, 0.8, 0.7), (0.25, 0.25, 0.25), (0.85, 0.8, 0.75)]))
    assert choice.chosen.parts == (0, 2)
    assert len(choice.candidates) == 3 + 4 * len(KINDS)  # every subset; a single part has one kind


def test_equal_parts_get_equal_weights() -> None:
    choice = chosen(validation([(0.8, 0.7, 0.6)] * 3))
    assert choice.chosen.parts == (0, 1, 2) and choice.chosen.kind == "equal"
    assert len(set(choice.chosen.weights.bias)) == 1


def test_of_two_copies_one_is_used() -> None:
    choice = chosen(validation([(0.8, 0.7, 0.6)] * 2, copied=True))
    assert choice.chosen.parts in ((0,), (1,))


def test_a_single_part_is_calibrated_and_used() -> None:
    choice = chosen(validation([(0.8, 0.7, 0.6)]))
    assert choice.chosen.parts == (0,) and len(choice.candidates) == 1


def test_what_was_chosen_is_never_worse_than_the_best_part_on_the_validation_texts() -> None:
    # A strong part, and a weak one whose wrong answers are as sure as its right ones.
    for strong in (0.6, 0.75, 0.9):
        choice = chosen(validation([(strong, strong, strong), (0.5, 0.3, 0.3)]))
        best = max(entry.value for entry in choice.candidates if len(entry.parts) == 1)
        assert choice.chosen.value >= best


def test_all_parts_are_kept_if_subsets_are_off() -> None:
    data = validation([(0.9, 0.8, 0.7), (0.25, 0.25, 0.25)])
    choice = chosen(data, ("equal",), subsets=False)
    assert choice.chosen.parts == (0, 1) and choice.chosen.kind == "equal"
    assert "no combination is as good as the best part" in choice.warnings[0]
    fixed = chosen(data, ("fixed",), subsets=False).chosen
    useful, useless = fixed.weights.of(data.rows.measures)[0]
    assert fixed.kind == "fixed" and useless < useful / 3


def test_with_few_texts_nothing_is_fitted_and_only_clearly_harmful_parts_are_left_out() -> None:
    few = chosen(validation([(0.8, 0.7, 0.6), (0.75, 0.7, 0.65)], number=60))
    assert few.chosen.parts == (0, 1) and few.chosen.weights == Weights.even(2)
    assert "only 60 validation texts" in few.warnings[0]
    harmful = chosen(validation([(0.95, 0.95, 0.95), (0.05, 0.05, 0.05)], number=60))
    assert harmful.chosen.parts == (0,)
    tiny = chosen(validation([(0.95, 0.95, 0.95), (0.05, 0.05, 0.05)], number=10))
    assert tiny.chosen.parts == (0, 1) and len(tiny.candidates) == 1


def test_with_many_parts_the_search_is_greedy() -> None:
    useful = [(0.8, 0.7, 0.6), (0.75, 0.7, 0.65)]
    choice = chosen(validation([*useful, *[(0.25, 0.25, 0.25)] * 5], number=200), ("equal",))
    assert choice.chosen.parts == (0, 1) and len(choice.candidates) < 40


def test_a_choice_is_reproducible() -> None:
    data = validation([(0.95, 0.4, 0.3), (0.6, 0.8, 0.85)], number=200)
    assert chosen(data).chosen.weights == chosen(data).chosen.weights


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_weights_lower_the_loss_of_numbers_and_of_several_labels(kind: Kind) -> None:
    generator = np.random.default_rng(2)
    truth = generator.normal(size=300)
    parts = np.stack([truth + generator.normal(0, 0.3, 300), truth + generator.normal(0, 1.5, 300)])[:, :, None]
    owners, measures, weights = np.arange(300), generator.normal(size=(300, 2)), np.ones(300)
    rows = Rows(parts, truth, owners, measures, weights)
    assert loss_of("regress", fit("regress", kind, rows), rows) <= loss_of("regress", Weights.even(2), rows) + 1e-9
    if kind != "equal":
        assert fit("regress", kind, rows).of(measures)[:, 0].min() > fit("regress", kind, rows).of(measures)[:, 1].max()
    several = (generator.random((300, 3)) < 0.5).astype(np.float64)
    odds = np.stack([(several - 0.5) * 4 + generator.normal(0, scale, several.shape) for scale in (1, 4)])
    rows = Rows(odds, several, owners, measures, weights)
    assert loss_of("multilabel", fit("multilabel", kind, rows), rows) < loss_of("multilabel", Weights.even(2), rows)


def loss_of(task: str, weights: Weights, rows: Rows) -> float:
    joined: Floats = fuse(task, rows.scores, weights.of(rows.measures)[rows.owners])  # type: ignore[arg-type]
    return float(losses(task, joined, rows).mean())  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["classify", "multilabel", "regress"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_loss(task: str, kind: Kind) -> None:
    from scipy.optimize import check_grad

    generator = np.random.default_rng(3)
    scores, owners = (
        generator.normal(size=(3, 30, 1 if task == "regress" else 4)),
        np.sort(generator.integers(20, size=30)),
    )
    targets = {
        "classify": generator.integers(4, size=30),
        "multilabel": (generator.random((30, 4)) < 0.5).astype(np.float64),
        "regress": generator.normal(size=30),
    }[task]
    rows = Rows(scores, targets, owners, generator.normal(size=(20, 2)), generator.random(20))
    problem = _Problem(task, kind, rows, rows.measures)  # type: ignore[arg-type]
    start = problem.start(Weights.even(3)) + generator.normal(0, 0.1, len(problem.start(Weights.even(3))))
    assert check_grad(lambda x: problem(x)[0], lambda x: problem(x)[1], start) < 1e-5


def test_the_gradient_with_a_bonus_and_without_estimates_is_that_of_the_loss() -> None:
    from scipy.optimize import check_grad

    generator = np.random.default_rng(3)
    owners = np.sort(generator.integers(20, size=30))
    scores, targets = generator.normal(size=(2, 30, 3)), generator.integers(3, size=30)
    rows = Rows(scores, targets, owners, np.zeros((20, 0)), generator.random(20))
    problem = _Problem("tag", "fixed", rows, rows.measures, with_bonus=True)
    start = np.array([0.1, -0.3, 0.7])
    assert check_grad(lambda x: problem(x)[0], lambda x: problem(x)[1], start) < 1e-5
    weights, bonus = fit_with_bonus("tag", "fixed", rows)
    assert bonus != 0 and weights.of(np.zeros((4, 0))).shape == (4, 2)
