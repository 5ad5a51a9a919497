"""Reports: a JSONL file that can be followed, lines and bars on standard error, and figures for people."""

import doctest
import json
from pathlib import Path

import pytest

from cclm_core.runtime import reporting as module
from cclm_core.runtime.reporting import format_duration, format_number, reporting


def test_every_report_is_flushed_as_a_line(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    with reporting("base", path, bar=False) as report:
        report(1, {"loss": 2.5}, 3)
        first = path.read_text()
        report(3, {"loss": 2.25}, 3)
    assert json.loads(first)["values"] == {"loss": 2.5}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(1, 3), (3, 3)]
    assert lines[0]["time"] <= lines[1]["time"]


def test_without_a_bar_progress_is_printed_as_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "time", lambda: now)
    with reporting("base", None, bar=False) as report:
        now += 2
        report(1, {"loss": 2.5}, 300)
        now += 2
        report(2, {"loss": 2.4}, 300)  # less than 5 seconds after the last line
        now += 196
        report(300, {"characters_per_second": 61152.0, "fit_seconds": 3900}, 300)
        now += 60
        report(7, {})
    assert capsys.readouterr().err.splitlines() == [
        "base: step 1 of 300 after 2.0 s  loss 2.50",
        "base: step 300 of 300 after 3 min 20 s  characters_per_second 61.2 k  fit 1 h 5 min",
        "base: step 7 after 4 min 20 s",
    ]


def test_a_bar_shows_the_name_and_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting("pretrain@entities", None, bar=True) as report:
        report(2, {"loss": 0.125}, 2)
    shown = capsys.readouterr().err
    assert "pretrain@entities" in shown and "2/2" in shown and "loss 0.125" in shown


def test_the_examples_of_the_module() -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 3 and result.failed == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-3, "-3"),
        (9999, "9999"),
        (10_000, "10.0 k"),
        (999_999, "1.00 M"),
        (-2.5e9, "-2.50 G"),
        (999.7, "1000"),
    ],
)
def test_numbers_round_to_the_next_unit(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_shown_as_they_are(value: float) -> None:
    assert format_number(value) == str(value)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 ms"), (0.9999, "1.0 s"), (9.99, "10 s"), (59.7, "1 min 0 s"), (3599.6, "1 h 0 min")]
)
def test_durations_round_to_the_next_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
