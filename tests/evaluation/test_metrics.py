"""Measurements, their confidence intervals, and published metrics."""

from pathlib import Path

import numpy as np
import pytest

from cclm_core.evaluation.metrics import Baseline, Bootstrap, Metric, best, ratio, read_metrics, to_metric
from cclm_core.runtime.artifacts import write_json
from cclm_core.runtime.errors import ConfigError

BOOTSTRAP = Bootstrap()


def test_the_interval_of_a_share_matches_the_normal_approximation() -> None:
    correct = np.arange(400) % 4 == 0  # a quarter: the standard error is sqrt(0.25 * 0.75 / 400) = 0.0217
    low, high = BOOTSTRAP.interval(ratio(correct, np.ones(400)), 1) or (0, 0)
    assert low == pytest.approx(0.25 - 1.96 * 0.0217, abs=0.006)
    assert high == pytest.approx(0.25 + 1.96 * 0.0217, abs=0.006)


def test_documents_are_resampled_rather_than_characters() -> None:
    """Two documents of 1,000 characters each are two observations."""
    low, high = BOOTSTRAP.interval(ratio([1000, 0], [1000, 1000]), 1) or (0, 0)
    assert (low, high) == (0, 1)


def test_intervals_are_reproducible_and_narrow_with_more_documents_or_less_confidence() -> None:
    few, many = (ratio(np.arange(n) % 2, np.ones(n)) for n in (50, 5000))
    assert BOOTSTRAP.interval(few, 1) == BOOTSTRAP.interval(few, 1) != BOOTSTRAP.interval(few, 2)

    def width(bootstrap: Bootstrap, number: int) -> float:
        low, high = bootstrap.interval((few, many)[number], 1) or (0, 0)
        return high - low

    assert width(BOOTSTRAP, 1) < 0.2 * width(BOOTSTRAP, 0)
    assert width(Bootstrap(confidence=0.5), 0) < 0.5 * width(BOOTSTRAP, 0)


def test_about_one_in_twenty_intervals_misses_the_true_value() -> None:
    generator = np.random.default_rng(0)
    bootstrap, missed = Bootstrap(resamples=300), 0
    for seed in range(200):
        low, high = bootstrap.interval(ratio(generator.random(100) < 0.3, np.ones(100)), seed) or (0, 0)
        missed += not low <= 0.3 <= high
    assert 2 <= missed <= 24


def test_one_document_has_no_interval() -> None:
    metric = to_metric(ratio([1], [2], "lower"), {"other": ratio([2], [2])}, BOOTSTRAP, 1)
    assert metric == Metric(value=0.5, better="lower", documents=1, baselines=(Baseline(name="other", value=1),))


@pytest.mark.parametrize(("better", "loss"), [("higher", 0.25), ("lower", -0.25)])
def test_a_loss_is_positive_if_the_value_gets_worse(better: str, loss: float) -> None:
    whole, rest = (ratio([number, 1], [4, 4], better) for number in (3, 1))  # type: ignore[arg-type]
    measurement = whole.loss_without(rest)
    assert (measurement.value, measurement.better) == (loss, "higher")
    low, high = BOOTSTRAP.interval(measurement, 1) or (0, 0)
    assert low <= loss <= high  # paired: both are resampled with the same documents
    assert {low, high} <= {0, 2 * loss}


def test_metrics_are_read_back_and_an_error_names_the_invalid_metric(tmp_path: Path) -> None:
    metric = Metric(value=0.5, better="higher", interval=(0.4, 0.6), documents=9, headline=True)
    write_json(tmp_path / "evaluation.json", {"metrics": {"f1": metric.canonical()}})
    assert read_metrics(tmp_path) == {"f1": metric}
    write_json(tmp_path / "evaluation.json", {"metrics": {"f1": {"value": 1, "better": "up"}}})
    with pytest.raises(ConfigError, match=r"metrics\.f1.*better"):
        read_metrics(tmp_path)
    write_json(tmp_path / "evaluation.json", {"composition": "no metrics here"})
    assert read_metrics(tmp_path) == {} == read_metrics(tmp_path / "nowhere")


def test_the_best_of_equal_values_is_the_first() -> None:
    assert best([0.5, 0.5], "higher") == 0
    assert best([0.5, 0.7], None) is None and best([None, 0.7], "lower") is None
