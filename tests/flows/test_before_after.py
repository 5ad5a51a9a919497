"""What a run says about its changes: its name, each metric before and after, and the description of a version."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cclm_core.evaluation.promotion import PromotionConfig
from cclm_core.runtime.artifacts import publishing, write_json
from flows.gate.descriptions import version_description
from flows.graph.changes import changed_parameters, run_name
from flows.graph.evaluations import Evaluation
from flows.graph.node import Node
from flows.graph.plan import Plan
from flows.project import Project
from flows.run.before_after import best_and_smallest, changes, changes_markdown, snapshots
from flows.run.run_page import Changes, run_markdown

RULES = PromotionConfig.model_validate({"metrics": {"f1": {"margin": 0.05}}})


def measured(root: Path, name: str, f1: float, bits: float, noise: str = "0", num_bytes: int = 10) -> Evaluation:
    """A composition of some size, with results on some noise sets."""
    model, results = root / "models" / name, root / "results" / name
    model.mkdir(parents=True, exist_ok=True)
    (model / "weights").write_bytes(bytes(num_bytes))
    metrics: dict[str, Any] = {
        "f1": {"value": f1, "better": "higher", "interval": [f1 - 0.04, f1 + 0.04], "headline": True},
        "bits": {"value": bits, "better": "lower", "interval": [bits - 0.1, bits + 0.1], "headline": True},
        "seconds": {"value": 3},
    }
    with publishing(results, "evaluation") as folder:
        write_json(folder / "metrics.json", {key: value["value"] for key, value in metrics.items()})
        write_json(folder / "evaluation.json", {"noise": noise, "metrics": metrics})
    return Evaluation(name, Node(f"compose@{name}"), Node(f"evaluate@{name}"), model, results, (), False)


def test_every_main_metric_has_a_verdict_by_the_margin_or_by_the_intervals(tmp_path: Path) -> None:
    first = [measured(tmp_path, name, 0.5, 2.0) for name in ("full", "same", "other")]
    before = snapshots(first)
    after = snapshots(
        [
            measured(tmp_path, "full", 0.54, 1.7),
            measured(tmp_path, "same", 0.5, 2.0),
            measured(tmp_path, "other", 0.6, 2.05, noise="1"),
            measured(tmp_path, "new", 0.6, 2.0),
        ]
    )
    found = changes(before, after, RULES, tasks=[])
    assert [(change.model, change.metric, change.margin, change.verdict) for change in found] == [
        ("full", "bits", None, "better"),
        ("full", "f1", 0.05, "within the margin"),
        ("other", "bits", None, "measured on other data"),
        ("other", "f1", 0.05, "measured on other data"),
    ]
    text = changes_markdown([change.as_json() for change in found])
    assert "| full | f1 ↑ | 0.500 | 0.540 | +0.04 | within the margin (margin 0.05) |" in text.splitlines()
    (bits, f1) = changes(after, before, RULES, tasks=["full"])[:2]  # tasks have no margins
    assert (bits.verdict, f1.verdict, f1.margin) == ("worse", "no clear difference", None)


def test_the_best_composition_of_each_metric_and_the_smallest_are_named(tmp_path: Path) -> None:
    full = measured(tmp_path, "full", 0.6, 2.0, num_bytes=3_000_000)
    small = measured(tmp_path, "small", 0.5, 1.9, num_bytes=1_000_000)
    assert best_and_smallest([full, small]) == [
        "best bits: small",
        "best f1: full",
        "smallest composition: small (1 MB)",
    ]
    assert best_and_smallest([full]) == []


def test_the_name_of_a_run_says_what_changed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    lock = {
        "schema": "2.0",
        "stages": {
            "train@words": {
                "cmd": "x",
                "params": {"params.yaml": {"components.words": {"training": {"steps": 30}, "rate": 0.1}, "seed": 1}},
            }
        },
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    values = {"components.words.training.steps": 35, "components.words.width": 8, "seed": 1}
    changed = changed_parameters(project, [Node("train@words", params=values), Node("new", params={"other": 1})])
    assert changed == {
        "components.words.training.steps": (30, 35),
        "components.words.width": (None, 8),
        "components.words.rate": (0.1, None),
    }
    name = run_name(0, "retrain words", changed, "components.words.")
    assert name[16:] == " · retrain words · training.steps=35, width=8, rate=null"
    assert run_name(0, "run", {str(number): (1, "x" * 40) for number in range(5)})[16:].endswith("..., 2 more")
    assert run_name(0, "run", {})[16:] == " · run"


def test_the_page_of_a_run_has_its_links_results_decisions_and_parameters(tmp_path: Path) -> None:
    decision = {"name": "full", "model": "cclm-full", "version": "3", "result": "candidate", "reason": "0 of 1 better"}
    summary = {
        "started": 0.0,
        "ended": 61.0,
        "stages": [
            {"stage": "train@a", "outcome": "ran", "seconds": 60.0},
            {"stage": "train@b", "outcome": "failed", "seconds": 1.0, "message": "no memory"},
        ],
        "promotion": [decision],
        "best": ["best f1: full"],
    }
    changes = Changes({"components.a.training.steps": (30, 35)}, (), (), (), None, ())
    links = {"Compare compositions": "#/experiments/1/runs?viewStateShareKey=cclm-compositions"}
    page = run_markdown(Project(tmp_path), Plan({}, {}), changes, summary, links)
    for text in (
        "**1 of 2 stages ran** in 1 min 1 s; **1 failed**",
        "[Compare compositions](#/experiments/1/runs?viewStateShareKey=cclm-compositions)",
        "### train@b failed\n\n```\nno memory",
        "| `components.a.training.steps` | `30` | `35` |",
        "* **full**, cclm-full version 3: **candidate**. 0 of 1 better",
        "## What is better\n\n* best f1: full",
    ):
        assert text in page, page


@pytest.mark.parametrize("figures", ['{"f1": {"value": 0.5, "interval": [0.4, 0.6], "better": "higher"}}', "damaged"])
def test_the_description_of_a_version_has_figures_the_decision_and_how_to_load_it(figures: str) -> None:
    tags = {
        "cclm.kind": "composition",
        "cclm.bytes": "12000000",
        "cclm.figures": figures,
        "gate.result": "candidate",
        "gate.reason": "0 of 1 metrics better",
        "git.commit": "0123456789abcdef",
    }
    text = version_description("cclm-full", "3", tags)
    assert "A composition, 12 MB, made by commit 0123456789ab." in text
    assert "**candidate**: 0 of 1 metrics better" in text and "load_model('models:/cclm-full/3')" in text
    assert ("| f1 ↑ | 0.500 | 0.400 to 0.600 |" in text) == (figures != "damaged")
