"""Artifacts of a flow run in Prefect, and metrics of an evaluation in MLflow."""

import json
from pathlib import Path

import pytest

from cclm_core.runtime.artifacts import write_json
from flows.graph.plan import read_plan
from flows.project import Project
from flows.run.prefect_pages import page_links, publish_artifacts
from flows.tracking.client import Tracking
from flows.tracking.follow import noise_curve
from flows.tracking.metrics import result_metrics
from tests.flows.conftest import Toy

PAGES = "?workflowType=machine_learning"


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_run_has_tables_of_the_compositions_and_of_the_gates_decisions(done: Toy) -> None:
    from prefect import flow
    from prefect.artifacts import Artifact

    decision = {"name": "both", "model": "cclm-both", "version": "1", "result": "candidate", "reason": "why"}

    stages = [{"stage": name, "outcome": "ran"} for name in ("compose@both", "evaluate@both")]

    @flow
    def run() -> None:
        summary = {"stages": stages, "promotion": [decision], "parent_run": None}
        publish_artifacts(done, read_plan(done, changes=False), summary)

    run()
    compared, promoted = Artifact.get(key="compositions"), Artifact.get(key="promotion")
    assert compared and promoted
    assert {"metric": "f1", "both": "0.500"} in json.loads(str(compared.data))
    assert json.loads(str(promoted.data)) == [decision]


def test_a_run_and_the_views_have_urls_if_mlflow_is_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = {"parent_run": "abc", "views": {"Compare compositions": "#/view"}}
    for uri, server in [
        ("http://127.0.0.1:5055/", "http://127.0.0.1:5055"),
        ("https://me:secret@models.example/mlflow", "https://models.example/mlflow"),
    ]:
        monkeypatch.setattr("flows.run.prefect_pages.connect", lambda root, uri=uri: Tracking(None, "7", uri, root))
        assert page_links(Project(tmp_path), summary) == {
            "This run in MLflow": f"{server}/#/experiments/7/runs/abc{PAGES}",
            "Compare compositions": f"{server}/#/view",
        }
    local = "sqlite:///mlflow.db"
    monkeypatch.setattr("flows.run.prefect_pages.connect", lambda root: Tracking(None, "7", local, root))
    assert page_links(Project(tmp_path), summary) == page_links(Project(tmp_path), {"parent_run": None}) == {}


def test_the_noise_curve_has_the_noise_rate_as_step(tmp_path: Path) -> None:
    (tmp_path / "noise_curve.csv").write_text("rate,entity_f1,label_accuracy\n0.0,0.5,0.4\n0.05,0.25,\n")
    points = [(name, value, step) for name, value, _, step in noise_curve(tmp_path, 1.0)]
    clean = [("noise_curve/entity_f1", 0.5, 0), ("noise_curve/label_accuracy", 0.4, 0)]
    assert points == [*clean, ("noise_curve/entity_f1", 0.25, 50)]
    assert noise_curve(tmp_path / "missing", 1.0) == []


def test_only_numbers_are_metrics(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"a": 1, "b": {"c": 0.5}, "d": true, "e": "0.5", "f": NaN, "g": Infinity}')
    assert result_metrics(tmp_path) == {"a": 1.0, "b.c": 0.5}
    write_json(tmp_path / "metrics.json", {"huge": 10**400})
    assert result_metrics(tmp_path) == {}
