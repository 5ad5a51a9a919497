"""Reports: a JSONL file that can be followed, and lines for people who see no bar."""

import json
from pathlib import Path

import pytest

from cclm_core.runtime.reporting import reporting


def test_every_report_is_a_line_that_can_be_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.jsonl"
    with reporting("base", path, bar=False) as report:
        report(1, {"loss": 2.5}, 3)
        first = path.read_text()
        report(3, {"loss": 2.25}, 3)
    assert json.loads(first)["values"] == {"loss": 2.5}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["total"]) for line in lines] == [(1, 3), (3, 3)]
    assert lines[0]["time"] <= lines[1]["time"]
    assert capsys.readouterr().err.splitlines() == ["base step 1/3 loss 2.5", "base step 3/3 loss 2.25"]


def test_a_bar_shows_the_name_and_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting("pretrain@entities", None, bar=True) as report:
        report(2, {"loss": 0.125}, 2)
    shown = capsys.readouterr().err
    assert "pretrain@entities" in shown and "2/2" in shown and "loss 0.125" in shown
