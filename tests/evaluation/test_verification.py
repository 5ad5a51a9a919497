"""Metrics of authorship verification agree with scikit-learn and with their definitions."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from cclm_core.evaluation.verification import verification_metrics
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import derive


def test_they_agree_with_scikit_learn() -> None:
    generator = derive(1, "verification")
    truths = generator.random(200) < 0.4
    scores = np.round(np.clip(generator.random(200) * 0.6 + 0.3 * truths, 0, 1), 2)
    metrics = verification_metrics(scores, truths)
    assert metrics["auc"] == pytest.approx(roc_auc_score(truths, scores), abs=1e-4)
    assert metrics["brier"] == pytest.approx(1 - brier_score_loss(truths, scores), abs=1e-4)


def test_an_open_question_is_worth_the_accuracy_of_the_others() -> None:
    truths = [True, False] * 10
    sure = [0.9 if truth else 0.1 for truth in truths]
    assert verification_metrics(sure, truths)["c_at_1"] == 1
    half_open = [0.5 if number < 10 else score for number, score in enumerate(sure)]
    assert verification_metrics(half_open, truths)["c_at_1"] == pytest.approx(0.75)
    wrong = [1 - score for score in sure]
    assert verification_metrics(wrong, truths)["c_at_1"] == 0 == verification_metrics(wrong, truths)["f_05_u"]


def test_both_answers_are_needed() -> None:
    with pytest.raises(DataError, match="verification needs pairs of both kinds"):
        verification_metrics([0.1, 0.2], [True, True])
    with pytest.raises(DataError, match="must have one shape"):
        verification_metrics([0.1, 0.2], [True])
