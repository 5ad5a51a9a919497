"""The table that compares compositions with each other and with baselines, and marks the best of each row."""

from cclm_core.evaluation.metrics import Baseline, Metric
from flows.run.tables import comparison_rows, comparison_table, metric_values

BASELINES = (Baseline(name="ngrams", value=0.614), Baseline(name="majority", value=0.32))
FULL = {
    "accuracy": Metric(value=0.54094, better="higher", interval=(0.511, 0.571), baselines=BASELINES, headline=True),
    "bits": Metric(value=2.7461, better="lower", interval=(2.70, 2.79), headline=True),
    "parameters": Metric(value=1234567, headline=True),
    "detail": Metric(value=0.1, better="higher"),
}
CONTROL = FULL | {"bits": Metric(value=2.8888, better="lower", interval=(2.84, 2.93), headline=True)}


def test_a_baseline_that_beats_all_compositions_is_marked() -> None:
    accuracy, bits, parameters = comparison_rows({"full": FULL, "control": CONTROL})
    assert accuracy["metric"] == "accuracy ↑" and accuracy["baselines"] == "ngrams 0.614*, majority 0.320"
    assert (accuracy["full"], accuracy["control"]) == ("0.541 ±0.030", "0.541 ±0.030")
    assert bits == {"metric": "bits ↓", "full": "2.75 ±0.04*", "control": "2.89 ±0.05", "baselines": ""}
    assert parameters == {"metric": "parameters", "full": "1.23 M", "control": "1.23 M", "baselines": ""}


def test_without_headline_metrics_all_are_shown_and_missing_values_are_empty() -> None:
    rows = comparison_rows({"full": {"f1": Metric(value=0.5)}, "control": {"loss": Metric(value=3)}})
    assert rows == [{"metric": "f1", "full": "0.500", "control": ""}, {"metric": "loss", "full": "", "control": "3"}]
    assert comparison_rows({}) == []


def test_the_table_has_a_column_per_composition_and_a_legend() -> None:
    table = comparison_table({"full": FULL, "control": CONTROL})
    assert [column.header for column in table.columns] == ["metric", "full", "control", "baselines"]
    caption = "↑ higher is better, ↓ lower is better, * best of the row, ± half the width of the confidence interval"
    assert table.caption == caption
    assert table.row_count == 3
    assert metric_values({"full": FULL})["full"]["parameters"] == 1234567.0
