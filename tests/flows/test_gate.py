"""The gate's comparison: it passes what is better, and nothing else."""

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
        ({"f1": 0.8, "bits": 1.8}, False),  # one of exactly the margin
        ({"f1": 0.7, "bits": 2.0}, False),  # equal
        ({"f1": 0.6, "bits": 1.0}, False),  # worse on one
        ({"f1": 0.6, "bits": 2.5}, False),  # worse
    ],
)
def test_all_named_metrics_must_improve_by_more_than_the_margin(new: dict[str, float], passed: bool) -> None:
    assert compare(new, OLD, RULES).passed is passed


@pytest.mark.parametrize(
    ("new", "passed"),
    [
        ({"f1": 0.72, "bits": 2.1}, True),  # the other is worse, but within its margin
        ({"f1": 0.72, "bits": 2.3}, False),
        ({"f1": 0.705, "bits": 1.9}, False),
    ],
)
def test_fewer_may_be_asked_to_improve_when_none_gets_worse(new: dict[str, float], passed: bool) -> None:
    assert compare(new, OLD, ONE_OF_TWO).passed is passed


@pytest.mark.parametrize("broken", [{"f1": 0.9}, {"f1": 0.9, "bits": float("nan")}, {"f1": 0.9, "bits": float("inf")}])
def test_a_missing_metric_fails_on_either_side(broken: dict[str, float]) -> None:
    better = {"f1": 0.9, "bits": 0.1}
    assert "the candidate has no usable metric bits" in compare(broken, OLD, RULES).reason
    assert "the champion has no usable metric bits" in compare(better, broken, RULES).reason
    assert not compare(broken, OLD, RULES).passed and not compare(better, broken, RULES).passed


def test_a_champion_that_cannot_be_read_is_not_beaten() -> None:
    verdict = compare({"f1": 0.9, "bits": 0.1}, None, RULES)
    assert not verdict.passed and "cannot be read" in verdict.reason


def test_naming_no_metric_promotes_nothing() -> None:
    verdict = compare({"f1": 0.9}, {"f1": 0.1}, PromotionConfig())
    assert not verdict.passed and "names no metric" in verdict.reason


def test_the_reason_has_the_numbers() -> None:
    reason = compare({"f1": 0.8, "bits": 2.5}, OLD, RULES).reason
    assert reason == "f1 0.8 against 0.7: better; bits 2.5 against 2: worse"


def test_the_direction_comes_from_the_evaluation_and_is_never_guessed() -> None:
    rules = PromotionConfig.parse({"metrics": {"f1": {"margin": 0.01}, "bits": {"margin": 0.2}}}, "here")
    better = {"f1": 0.8, "bits": 1.5}
    assert compare(better, OLD, rules, {"f1": "higher", "bits": "lower"}).passed
    assert not compare(better, OLD, rules, {"f1": "higher", "bits": "higher"}).passed
    for directions in ({"f1": "higher"}, {"f1": "higher", "bits": None}):
        verdict = compare(better, OLD, rules, directions)
        assert not verdict.passed and "which direction of bits is better must be known" in verdict.reason
    contradicted = compare(better, OLD, RULES, {"f1": "lower"})
    assert not contradicted.passed and "params.yaml says higher, the evaluation says lower" in contradicted.reason
    assert compare(better, OLD, RULES, {"f1": None}).passed  # the evaluation gives none: the rule decides


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
def test_a_wrong_section_is_refused_by_name(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PromotionConfig.parse(section, "here")
    assert message in str(caught.value)
