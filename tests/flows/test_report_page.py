"""The report of a run: a copy of the published page with the facts of the run, and what leads to it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cclm_core.report import ANSWER, FACTS_PLACE, FILE
from cclm_core.runtime.artifacts import publishing, write_json
from cclm_core.runtime.errors import ConfigError
from flows.gate.model_pages import published_report
from flows.graph.node import Node
from flows.graph.plan import Plan
from flows.graph.selection import refuse_stale_before, with_dependents
from flows.project import Project
from flows.run.report_page import answer_markdown, newest_report, report_files, write_report
from flows.tracking.records import StageRecord

TRAIN = Node("train@a", outs=("models/a",), params={"components.a.steps": 1})
OTHER = Node("train@b", outs=("models/b",), params={"components.b.steps": 1})
REPORT = Node("report", needs=("train@a", "train@b"), deps=("models",), outs=("report",), meta={"summary": True})
PLAN = Plan({node.name: node for node in (TRAIN, OTHER, REPORT)}, {"train@b": ("components.b.steps modified",)})
PAGE = f"<html><body>page {FACTS_PLACE} end</body></html>"


def summary(outcome: str = "ran") -> dict[str, Any]:
    rows = [{"stage": name, "outcome": "ran", "seconds": 2.0} for name in ("train@a", "train@b")]
    decision = {"name": "full", "model": "cclm-full", "version": "3", "result": "champion", "reason": "</script>"}
    stages = [*rows, {"stage": "report", "outcome": outcome, "seconds": 1.0}]
    return {"started": 1_800_000_000.0, "ended": 1_800_000_075.0, "stages": stages, "promotion": [decision]}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    with publishing(tmp_path / "report", "report") as folder:
        (folder / FILE).write_text(PAGE)
        (folder / "tasks").mkdir()
        (folder / "tasks" / "topics.html").write_text("topics")
        write_json(folder / ANSWER, {"lines": ["full is the best."], "next": ["Train longer.", "Measure more."]})
    project = Project(tmp_path)
    cost = {"seconds": 90.0, "cpu_seconds": 30.0, "peak_memory_megabytes": 512.0}
    StageRecord("train@a", (), 1.0, "", False, ended=2.0, exit_code=0, cost=cost).write(project)
    return project


def test_the_copy_has_the_facts_of_the_run_and_the_published_page_has_not(project: Project) -> None:
    path = write_report(project, PLAN, summary(), {"This run in MLflow": "http://127.0.0.1:5000/#/run"})
    assert path == project.root / ".cclm" / "report" / FILE and newest_report(project, PLAN) == path
    text = path.read_text()
    (content,) = re.findall(r'id="run">(.*?)</script>', text)
    facts = json.loads(content)
    assert facts["summary"].startswith("Started 2027-01-15 08:00 UTC, took 1 min 15 s; 3 of 3 stages ran.")
    assert facts["decisions"] == [["full", "cclm-full", "3", "champion", "</script>"]]
    assert facts["stages"][0][:2] == ["train@a", "ran"]
    assert facts["stages"][0][2] == {"text": "1 min 30 s", "sort": 90.0} and facts["stages"][1][2] == ""
    assert facts["marks"][0] == ["train@a", "1 min 30 s", "ran"]
    assert facts["links"] == [{"text": "This run in MLflow", "address": "http://127.0.0.1:5000/#/run"}]
    assert (project.root / "report" / FILE).read_text() == PAGE
    assert report_files({"report": str(path)}) == [(path, ""), (path.parent / "tasks" / "topics.html", "tasks")]
    assert report_files({"report": None}) == []


def test_a_copy_of_an_earlier_page_is_not_shown(project: Project) -> None:
    write_report(project, PLAN, summary(), {})
    with publishing(project.root / "report", "report") as folder:
        (folder / FILE).write_text(PAGE.replace("page", "new page"))
        write_json(folder / ANSWER, {"lines": [], "next": []})
    assert newest_report(project, PLAN) == project.root / "report" / FILE
    assert answer_markdown(project, PLAN) == ""


@pytest.mark.parametrize("outcome", ["failed", "not run"])
def test_without_a_new_report_there_is_no_copy(project: Project, outcome: str) -> None:
    assert write_report(project, PLAN, summary(outcome), {}) is None
    assert newest_report(project, PLAN) == project.root / "report" / FILE


def test_the_answer_is_markdown(project: Project) -> None:
    assert answer_markdown(project, PLAN) == "* full is the best.\n\n**Next:** Train longer. Measure more."
    empty = Plan({"train@a": TRAIN}, {})
    assert published_report(project, empty) is None and newest_report(project, empty) is None
    assert answer_markdown(project, empty) == ""


def test_a_stale_stage_that_only_the_report_reads_does_not_block_a_retraining() -> None:
    nodes = with_dependents(PLAN, "train@a")
    assert list(nodes) == ["train@a", "report"]
    refuse_stale_before(PLAN, nodes)
    strict = Plan({**PLAN.nodes, "report": Node("report", needs=("train@a", "train@b"))}, PLAN.changed)
    with pytest.raises(ConfigError, match="depends on stale stages: train@b"):
        refuse_stale_before(strict, with_dependents(strict, "train@a"))
