"""The gate's comparison passes only better candidates."""

import pytest

from cclm_core.runtime.errors import ConfigError
from flows.gate.gate import PromotionConfig, compare

RULES = PromotionConfig.parse({"metrics": {"f1": "higher", "bits": {"better": "lower", "margin": 0.2}}}, "here")
ONE_OF_TWO = RULES.model_copy(update={"margin": 0.01, "improved": 1})
OLD = {"f1": 0.7, "bits": 2.0, "other": 1.0}


@pytest.mark.parametrize(
    ("new", "passed"),
    [
        ({"f1": 0.8, "bits": 1.5}, True),
        ({"f1": 0.8, "bits": 1.9}, False),  # an improvement below the margin
        ({"f1": 0.8, "bits": 1.8}, False),  # an improvement of exactly the margin
        ({"f1": 0.7, "bits": 2.0}, False),  # equal
        ({"f1": 0.6, "bits": 1.0}, False),  # worse on one metric
        ({"f1": 0.6, "bits": 2.5}, False),  # worse on both
    ],
)
def test_by_default_all_metrics_must_improve_by_more_than_the_margin(new: dict[str, float], passed: bool) -> None:
    assert compare(new, OLD, RULES).passed is passed


@pytest.mark.parametrize(
    ("new", "passed"),
    [
        ({"f1": 0.72, "bits": 2.1}, True),  # bits are worse, but within the margin
        ({"f1": 0.72, "bits": 2.3}, False),
        ({"f1": 0.705, "bits": 1.9}, False),
    ],
)
def test_with_improved_fewer_metrics_must_improve_and_none_may_get_worse(new: dict[str, float], passed: bool) -> None:
    assert compare(new, OLD, ONE_OF_TWO).passed is passed


@pytest.mark.parametrize("broken", [{"f1": 0.9}, {"f1": 0.9, "bits": float("nan")}, {"f1": 0.9, "bits": float("inf")}])
def test_an_unusable_metric_of_candidate_or_champion_fails(broken: dict[str, float]) -> None:
    better = {"f1": 0.9, "bits": 0.1}
    assert "the candidate's metric bits must be a finite number" in compare(broken, OLD, RULES).reason
    assert "the champion's metric bits must be a finite number" in compare(better, broken, RULES).reason
    assert not compare(broken, OLD, RULES).passed and not compare(better, broken, RULES).passed


def test_a_champion_without_readable_metrics_is_not_replaced() -> None:
    verdict = compare({"f1": 0.9, "bits": 0.1}, None, RULES)
    assert not verdict.passed and "cannot be read" in verdict.reason


def test_without_metrics_nothing_is_promoted() -> None:
    verdict = compare({"f1": 0.9}, {"f1": 0.1}, PromotionConfig())
    assert not verdict.passed and "there is nothing to compare" in verdict.reason


def test_the_reason_has_values_differences_and_margins() -> None:
    reason = compare({"f1": 0.8, "bits": 2.5}, OLD, RULES).reason
    assert reason == (
        "1 of 2 metrics better than the champion (2 required), 1 worse: f1 ↑ 0.800 vs 0.700 (+0.1, margin 0) better; "
        "bits ↓ 2.50 vs 2 (+0.5, margin 0.2) worse"
    )


def test_the_direction_comes_from_the_evaluation_and_is_never_guessed() -> None:
    rules = PromotionConfig.parse({"metrics": {"f1": {"margin": 0.01}, "bits": {"margin": 0.2}}}, "here")
    better = {"f1": 0.8, "bits": 1.5}
    assert compare(better, OLD, rules, {"f1": "higher", "bits": "lower"}).passed
    assert not compare(better, OLD, rules, {"f1": "higher", "bits": "higher"}).passed
    for directions in ({"f1": "higher"}, {"f1": "higher", "bits": None}):
        verdict = compare(better, OLD, rules, directions)
        assert not verdict.passed and "it is unknown which direction of bits is better" in verdict.reason
    contradicted = compare(better, OLD, RULES, {"f1": "lower"})
    assert not contradicted.passed and "promotion has higher, but the evaluation reports lower" in contradicted.reason
    assert compare(better, OLD, RULES, {"f1": None}).passed  # only params.yaml has a direction


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"metric": {}}, "did you mean 'metrics'?"),
        ({"metrics": {"f1": "up"}}, "here: metrics.f1.better"),
        ({"metrics": {"f1": {"margin": -1}}}, "here: metrics.f1.margin"),
        ({"metrics": ["f1"]}, "here: metrics"),
        ({"margin": -1}, "here: margin"),
        ({"improved": 0}, "here: improved"),
    ],
)
def test_an_invalid_section_is_refused_by_name(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PromotionConfig.parse(section, "here")
    assert message in str(caught.value)
