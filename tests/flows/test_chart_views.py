"""The saved views of MLflow's runs page: what a link to them opens, in a real store and in a real browser."""

import base64
import importlib.util
import json
import shutil
import subprocess
import sys
import time
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from cclm_core.evaluation.metrics import EVALUATION_FILE
from cclm_core.runtime.artifacts import folder_digest, publishing, write_json
from flows.gate.comparison_views import MAX_MODELS, save_comparison_views
from flows.graph.plan import read_plan
from flows.tracking import chart_views
from flows.tracking.chart_views import MAX_TAG, Chart, View, save_views
from flows.tracking.client import Tracking, connect
from tests.flows.conftest import Toy, made_once
from tests.flows.test_servers import ask, free_port

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
FIGURES: dict[str, dict[str, Any]] = {
    "accuracy": {"better": "higher", "headline": True, "baselines": [{"name": "ngrams", "value": 0.6}]},
    "accuracy_noise_0.1": {"better": "higher", "headline": True},
    "bits": {"better": "lower", "headline": True},
    "accuracy_ngrams": {"better": "higher", "headline": False},
    "parameters": {"headline": False},
}
CURVES = {"noise_curve/accuracy": 0.5, "noise_curve/accuracy_ngrams": 0.4, "noise_curve/documents/accuracy": 9.0}
SECTIONS = ["Smaller is better", "Larger is better", "By noise rate x 1,000; dashed: baseline"]
SECTIONS += ["Baselines, equal for all runs", "Model metrics", "System metrics", "noise_curve/documents"]
SERVER = """
import os, sys
from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR
os.environ |= {BACKEND_STORE_URI_ENV_VAR: sys.argv[1], REGISTRY_STORE_URI_ENV_VAR: sys.argv[1]}
os.environ |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ENABLE_AI_GATEWAY": "false"}
from mlflow.server.fastapi_app import app
from mlflow.server.handlers import initialize_backend_stores
import uvicorn
initialize_backend_stores(sys.argv[1], sys.argv[1], None)
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


@pytest.fixture(scope="module")
def store(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose composition was measured and tracked."""

    def make(root: Path) -> None:
        project = Toy(template).copy(root)
        with publishing(root / "compositions/both", "composition") as folder:
            write_json(folder / "number.json", 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            measured(connect(project), 0.5)

    return made_once(tmp_path_factory, "chart_views", make)


@pytest.fixture
def tracking(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """The store of a copy of the project."""
    project = Toy(store).copy(tmp_path / "project")
    monkeypatch.chdir(project.root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return connect(project)


def measured(tracking: Tracking, value: float) -> Tracking:
    """Publishes results with this value of each metric, and tracks them like a stage and like a pipeline."""
    results = tracking.project.root / "results/both"
    metrics = {name: {"value": value, **figure} for name, figure in FIGURES.items()}
    with publishing(results, "evaluation") as folder:
        write_json(folder / "metrics.json", dict.fromkeys(metrics, value))
        write_json(folder / EVALUATION_FILE, {"metrics": metrics})
    tags = {"digest.out.results/both": folder_digest(results), "cclm.kind": "evaluation"}
    logged = dict.fromkeys(metrics, value) | CURVES | {"system/cpu_seconds": 1.0}
    for name, own, points in (
        ("evaluate@both", tags, logged),
        ("the pipeline", {"cclm.kind": "pipeline"}, {f"both/{name}": value for name in metrics}),
    ):
        run_id = tracking.create_run(name, own)
        tracking.log(run_id, [(metric, number, time.time(), 0) for metric, number in points.items()])
        tracking.set_status(run_id, "FINISHED")
    return tracking


def saved(tracking: Tracking, key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The value of a view's tag and its state, unpacked as MLflow's pages do."""
    value = json.loads(tracking.client.get_experiment(tracking.experiment_id).tags[f"{chart_views.TAG}{key}"])
    return value, json.loads(zlib.decompress(base64.b64decode(value["state"].removeprefix("deflate;"))))


def test_the_installed_pages_have_what_the_views_use() -> None:
    installed = version("mlflow")
    problem = (
        f"flows/tracking/chart_views.py was checked for the pages of MLflow {chart_views.CHECKED}, but {installed} is "
        "installed. Open `cclm ui` and its two views in a browser; if they show charts, update CHECKED and USED."
    )
    assert installed in SpecifierSet(chart_views.CHECKED), problem
    spec = importlib.util.find_spec("mlflow.server")
    assert spec is not None and spec.origin is not None
    missing = set(chart_views.USED)
    for path in sorted((Path(spec.origin).parent / "js/build/static/js").glob("*.js")):
        text = path.read_text(encoding="utf-8")
        missing -= {name for name in missing if name in text}
        if not missing:
            break
    assert not missing, f"{problem} Not in the pages: {sorted(missing)}"


def test_the_view_of_compositions_has_the_runs_and_charts_of_the_main_metrics(tracking: Tracking) -> None:
    plan = read_plan(tracking.project, changes=False)
    links = save_comparison_views(tracking, plan)
    assert links["Compare compositions"] == (
        f"#/experiments/{tracking.experiment_id}/runs?workflowType=machine_learning&compareRunsMode=CHART"
        "&viewStateShareKey=cclm-compositions"
    )
    value, state = saved(tracking, "cclm-compositions")
    assert value["name"] == "Compare compositions"
    # The expressions are valid in MLflow, and find only the evaluation of what is in the project's folder.
    (run,) = tracking.client.search_runs([tracking.experiment_id], state["searchFilter"])
    assert run.info.run_name == "evaluate@both" and state["orderByKey"] == "metrics.`accuracy`"
    assert not state["orderByAsc"]
    assert state["selectedColumns"] == ["metrics.`accuracy`", "metrics.`accuracy_noise_0.1`", "metrics.`bits`"]
    assert [section["name"] for section in state["compareRunSections"]] == SECTIONS
    assert [section["display"] for section in state["compareRunSections"]] == [True] * 4 + [False] * 3
    titles = {section["uuid"]: section["name"] for section in state["compareRunSections"]}
    charts = [(titles[chart["metricSectionId"]], chart["selectedMetricKeys"]) for chart in state["compareRunCharts"]]
    curve = ["noise_curve/accuracy", "noise_curve/accuracy_ngrams"]
    shown: list[list[str]] = [["bits"], ["accuracy"], curve, ["accuracy_ngrams"]]
    assert charts == list(zip(SECTIONS, shown, strict=False))
    assert len({chart["uuid"] for chart in state["compareRunCharts"]}) == len(charts)

    _, over_time = saved(tracking, "cclm-runs")
    (pipeline,) = tracking.client.search_runs([tracking.experiment_id], over_time["searchFilter"])
    assert pipeline.info.run_name == "the pipeline"
    keys = [chart["metricKey"] for chart in over_time["compareRunCharts"]]
    assert keys == ["both/accuracy", "both/bits"] and set(keys) < set(pipeline.data.metrics)


def test_a_view_is_written_again_only_if_it_changed(tracking: Tracking) -> None:
    plan = read_plan(tracking.project, changes=False)
    save_comparison_views(tracking, plan)
    first = saved(tracking, "cclm-compositions")
    save_comparison_views(tracking, plan)
    assert saved(tracking, "cclm-compositions") == first
    measured(tracking, 0.75)
    save_comparison_views(tracking, plan)
    second = saved(tracking, "cclm-compositions")
    assert second[1]["searchFilter"] != first[1]["searchFilter"] and second[0]["createdAt"] == first[0]["createdAt"]
    # An invalid view is replaced. Without a tracked evaluation, there is no view.
    tracking.client.set_experiment_tag(tracking.experiment_id, f"{chart_views.TAG}cclm-compositions", "{damaged")
    save_comparison_views(tracking, plan)
    assert saved(tracking, "cclm-compositions")[1] == second[1]
    with publishing(tracking.project.root / "results/both", "evaluation") as folder:
        write_json(folder / "metrics.json", {"bits": 2.0})
    assert save_comparison_views(tracking, plan) == {}


def test_the_largest_views_fit_into_a_tag(tracking: Tracking) -> None:
    names = [f"model_{number}/some_long_metric_{metric}" for metric in range(8) for number in range(MAX_MODELS)]
    sections = {f"section {start}": tuple(Chart((name,)) for name in names[start::8]) for start in range(8)}
    view = View("large", "Large", "tags.a = 'b'", sections, tuple(names), "attributes.start_time", False)
    save_views(tracking, [view])
    value, state = saved(tracking, "large")
    assert len(json.dumps(value)) < MAX_TAG and len(state["compareRunCharts"]) == len(names)


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="chromium is not installed")
def test_a_browser_opens_the_view_of_compositions_with_its_charts(tracking: Tracking, tmp_path: Path) -> None:
    links, port = save_comparison_views(tracking, read_plan(tracking.project, changes=False)), free_port()
    server = subprocess.Popen([sys.executable, "-c", SERVER, tracking.uri, str(port)])
    try:
        until = time.monotonic() + 120
        while not answers(port):
            assert server.poll() is None and time.monotonic() < until
            time.sleep(0.2)
        words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        words += ["--window-size=1600,3000", "--virtual-time-budget=20000", "--dump-dom"]
        words.append(f"http://127.0.0.1:{port}/{links['Compare compositions']}")
        text = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    finally:
        server.kill()
        server.wait()
    places = [text.find(f">{title}") for title in SECTIONS]
    assert -1 not in places and places == sorted(places), places
    assert "evaluate@both" in text and "the pipeline" not in text


def answers(port: int) -> bool:
    try:
        return ask(port, "/health")[0] == 200
    except OSError:
        return False
