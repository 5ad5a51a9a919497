"""The table that compares compositions with each other and with baselines, and marks the best of each row."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from cclm_core.evaluation.metrics import Baseline, Metric
from cclm_core.runtime.artifacts import write_json
from flows.graph.evaluations import Evaluation
from flows.graph.node import Node
from flows.run.tables import (
    comparison_rows,
    comparison_table,
    current,
    evaluation_warnings,
    metric_values,
    print_comparison,
)

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


def test_each_row_says_what_it_is_measured_on() -> None:
    measured = {"accuracy": FULL["accuracy"].model_copy(update={"documents": 1008, "labels": 77}), "bits": FULL["bits"]}
    accuracy, bits = comparison_rows({"full": measured})
    assert accuracy["measured on"] == "1,008 documents, 77 labels" and bits["measured on"] == ""


@pytest.mark.parametrize("width", [40, 60, 200])
def test_a_narrow_console_cuts_no_name_and_no_value(width: int) -> None:
    names = {f"a_long_metric_name_that_differs_at_the_end_{number}": FULL["accuracy"] for number in range(3)}
    stream = io.StringIO()
    print_comparison(Console(file=stream, width=width), {"full": names, "control": names})
    text = stream.getvalue()
    assert all(f"{name} ↑" in text for name in names) and "…" not in text
    assert text.count("0.541 ±0.030") == 6 and text.count("ngrams 0.614*, majority 0.320") == 3


def evaluated(name: str, root: Path = Path()) -> Evaluation:
    return Evaluation(name, Node(f"compose@{name}"), Node(f"evaluate@{name}"), root, root / name, (), False)


def test_a_run_shows_only_the_results_that_it_has_made_or_checked() -> None:
    measured = [evaluated(name) for name in ("full", "failed", "elsewhere")]
    outcomes = {"ingest": "ran", "compose@full": "unchanged", "evaluate@full": "ran"}
    outcomes |= {"compose@failed": "ran", "evaluate@failed": "failed", "compose@elsewhere": "ran"}
    stages = [{"stage": stage, "outcome": outcome} for stage, outcome in outcomes.items()]
    assert [evaluation.name for evaluation in current(measured, stages)] == ["full"]
    assert current(measured, stages[:1]) == []


def test_equal_warnings_are_shown_once(tmp_path: Path) -> None:
    for name, warnings in {"full": ["few"], "control": ["few", "other"], "old": None}.items():
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "evaluation.json", {} if warnings is None else {"warnings": warnings})
    measured = [evaluated(name, tmp_path) for name in ("full", "control", "old", "missing")]
    assert evaluation_warnings(measured) == ["full, control: few", "control: other"]
