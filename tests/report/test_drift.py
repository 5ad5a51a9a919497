"""The page shows how the data differ from the accepted ones, and which expectations are not met."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cclm_core.ingest.profile import ACCEPTED, PROFILE
from cclm_core.report.data import data_sections
from cclm_core.report.pipeline import boxes
from cclm_core.report.published import Collection
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.ingest import Contract, ingest
from cclm_core.steps.params import Params


def _ingest(labels: list[str], expectations: list[Any]) -> Collection:
    draw = random.Random(1)
    rows = [json.dumps({"text": f"where is card {number}", "label": draw.choice(labels)}) for number in range(300)]
    Path("a.jsonl").write_text("\n".join(rows))
    source = {"kind": "files", "paths": "a.jsonl", "columns": {"label": "label"}}
    section = {"source": source, "validation_share": 0.2, "test_share": 0.2, "expectations": expectations}
    contract = Contract(Path("contract"), Path("data/checks"), Path("refused"))
    ingest(Params({"seed": 1, "ingest": section}), Path(), Path("data/corpus"), null_report, 1, contract)
    return Collection.find([Path("data")])


def test_the_data_section_shows_drift_and_expectations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [section] = data_sections(_ingest(["card", "refund"], []))
    assert section.drift is None and section.expectations is None

    Path("contract").mkdir()
    write_json(Path("contract") / ACCEPTED, read_json(Path("data/checks") / PROFILE) | {"alphabet": None})
    collection = _ingest(["card", "<refund>"], ["labels", "texts", "bytes"])
    [section] = data_sections(collection)
    assert section.drift and section.expectations
    rows = {str(row[1].content): [str(cell.content) for cell in row[2:]] for row in section.drift.rows}
    assert rows["texts"] == ["300", "300"] and rows["rejected input"] == ["0.000%", "0.000%"]
    assert float(rows["distance between the shares of labels"][1]) > 0.4
    states = [(str(row[0].content), str(row[2].content)) for row in section.expectations.rows]
    assert states == [("labels", "not met"), ("texts", "met"), ("bytes", "not compared")]
    assert any("distance between the shares of labels" in warning for warning in section.warnings)
    assert [box.stage for box in boxes(collection)] == ["ingest"]
