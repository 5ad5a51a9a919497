"""Promotion on a real registry with a real model: each composition is registered once, and the gate decides."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cclm_core.runtime.artifacts import publishing, write_json
from cclm_core.runtime.errors import ConfigError, IntegrityError
from flows import environment
from flows.gate import overrides
from flows.gate import promote as promotion
from flows.gate.gate import Verdict
from flows.gate.model_pages import attach_pages, current_report
from flows.gate.overrides import accept
from flows.gate.promote import Decision, pending, promote_all
from flows.gate.registry import Registry, model_name
from flows.graph.evaluations import Evaluation, evaluations
from flows.graph.node import Node
from flows.graph.plan import Plan, read_plan
from flows.tracking.client import connect
from tests.flows.conftest import Toy


class Promoter:
    """A project with one evaluated composition, and operations on it."""

    def __init__(self, project: Toy, model: Path) -> None:
        self.project, self.root, self.model = project, project.root, model
        project.params(lambda values: values.update(promotion={"metrics": {"f1": "higher"}, "margin": 0.01}))
        self.client = MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")

    def measured(self, untrained: bool = False) -> list[Evaluation]:
        (evaluation,) = evaluations(read_plan(self.project, changes=False), self.project)
        return [replace(evaluation, untrained=untrained)]

    def make(self, number: int, metrics: dict[str, float], broken: bool = False) -> None:
        """Publishes a new composition and its results."""
        with publishing(self.root / "compositions/both", "composition") as folder:
            shutil.copytree(self.model, folder, dirs_exist_ok=True)
            write_json(folder / "number.json", number)
            if broken:
                (folder / "parts/a/component.safetensors").write_bytes(b"no weights")
        with publishing(self.root / "results/both", "evaluation") as folder:
            write_json(folder / "metrics.json", metrics)

    def publish_page(self, text: str) -> None:
        """Publishes a report with a page of the composition."""
        with publishing(self.root / "report", "report") as folder:
            (folder / "both.html").write_text(text)

    def plan_with_report(self, changed: dict[str, tuple[str, ...]]) -> Plan:
        """The stages and a report, of which some have changed."""
        nodes = read_plan(self.project, changes=False).nodes
        return Plan({**nodes, "report": Node("report", outs=("report",), meta={"summary": True})}, changed)

    def promote(self, untrained: bool = False) -> Decision:
        (decision,) = promote_all(self.project, self.measured(untrained), None, lambda _: None)
        return decision

    def alias(self, name: str) -> str | None:
        version = Registry(connect(self.project)).get("cclm-both", name)
        return version.number if version else None

    def versions(self) -> list[str]:
        return sorted(str(version.version) for version in self.client.search_model_versions("name='cclm-both'"))


@pytest.fixture
def promoter(done: Toy, model: Path, monkeypatch: pytest.MonkeyPatch) -> Promoter:
    monkeypatch.chdir(done.root)
    for name, value in {**environment.DEFAULTS, "DVC_SITE_CACHE_DIR": str(done.root / ".cclm/dvc")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(done.root / ".cclm/prefect"))
    return Promoter(done, model)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model passes the load check. Real checks take seconds; the last tests run them."""
    for module in (promotion, overrides):
        monkeypatch.setattr(module, "load_check", lambda _uri, _tracking: Verdict(True, ""))


@pytest.mark.usefixtures("loads")
def test_from_the_first_candidate_to_the_second_champion(promoter: Promoter) -> None:
    # Without a champion, it stays a candidate, and the reason names the command.
    promoter.make(1, {"f1": 0.5})
    assert pending(promoter.project, promoter.measured()) == ["both"]
    first = promoter.promote()
    assert (first.created, first.version, first.result) == (True, "1", "candidate")
    assert "cclm promote --accept both" in first.reason
    assert promoter.alias("candidate") == "1" and promoter.alias("champion") is None
    tags = promoter.client.get_model_version("cclm-both", "1").tags
    assert tags["gate.result"] == "candidate" and tags["gate.reason"] == first.reason
    assert json.loads(tags["cclm.metrics"]) == {"f1": 0.5} and len(tags["git.commit"]) == 40

    # The page of the composition is attached to the run that registered it.
    promoter.publish_page("the page of both")
    plan = promoter.plan_with_report({})
    tracking, report = connect(promoter.project), current_report(promoter.project, plan)
    assert attach_pages(tracking, plan, report, [first.as_json()]) == ["both"]
    run = promoter.client.get_run(promoter.client.get_model_version("cclm-both", "1").run_id)
    page = promoter.client.download_artifacts(run.info.run_id, "report.html")
    assert Path(page).read_text() == "the page of both"
    assert run.data.tags["mlflow.note.content"].startswith("Registered as cclm-both version 1.")
    stale = promoter.plan_with_report({"report": ("results/both modified",)})
    assert current_report(promoter.project, stale) is None
    assert attach_pages(tracking, plan, None, [first.as_json()]) == []

    # A second time, nothing is registered or decided.
    assert pending(promoter.project, promoter.measured()) == []
    again = promoter.promote()
    assert (again.created, again.decided, again.reason) == (False, False, first.reason)
    assert promoter.versions() == ["1"]

    assert accept(promoter.project, "both").result == "champion"
    assert promoter.alias("champion") == "1"

    # Better by more than the margin: it becomes champion, and the old champion becomes `previous`.
    promoter.make(2, {"f1": 0.6})
    second = promoter.promote()
    assert (second.version, second.result) == ("2", "champion")
    assert second.reason.endswith("f1 ↑ 0.600 vs 0.500 (+0.1, margin 0.01) better")
    assert (promoter.alias("candidate"), promoter.alias("champion"), promoter.alias("previous")) == ("2", "2", "1")
    assert promoter.client.get_model_version("cclm-both", "1").tags["gate.result"] == "previous"
    assert promoter.versions() == ["1", "2"]


@pytest.mark.usefixtures("loads")
def test_a_candidate_that_cannot_be_compared_stays_a_candidate(promoter: Promoter) -> None:
    promoter.make(1, {"f1": 0.5})
    assert "cannot be champion" in promoter.promote(untrained=True).reason
    with pytest.raises(ConfigError, match="both is an untrained control"):
        accept(promoter.project, "both")
    promoter.make(2, {"f1": 0.5})
    promoter.promote()
    accept(promoter.project, "both")

    for metrics, reason in [
        ({"f1": 0.5}, "within the margin"),
        ({"f1": 0.4}, "worse"),
        ({"other": 0.9}, "promotion.metrics: f1 is not in the evaluation of both. Remove it, or choose from"),
    ]:
        promoter.make(3, metrics)
        decision = promoter.promote()
        assert decision.result == "candidate" and reason in decision.reason
        assert promoter.alias("champion") == "2"

    with publishing(promoter.root / "data/corpus", "corpus") as folder:
        write_json(folder / "metrics.json", {"records": 99})
    promoter.make(3, {"f1": 0.9})
    assert "measured on other data" in promoter.promote().reason
    assert promoter.versions() == ["1", "2", "3"] and promoter.alias("champion") == "2"


@pytest.mark.usefixtures("loads")
def test_a_metric_that_the_corpus_does_not_have_is_told_at_the_first_promotion(
    promoter: Promoter, capsys: pytest.CaptureFixture[str]
) -> None:
    promoter.make(1, {"other": 0.5, "width": 3})
    reason = promoter.promote().reason
    assert reason.startswith("the gate can never promote a version: params.yaml: promotion.metrics: f1 is not in the")
    assert "choose from: other, width" in reason and "cclm promote --accept both" in reason
    assert accept(promoter.project, "both").result == "champion"
    assert "the gate can never replace this champion: the metrics of both have no f1" in capsys.readouterr().err


def test_a_damaged_composition_is_not_registered(promoter: Promoter) -> None:
    promoter.make(1, {"f1": 0.5})
    (promoter.root / "compositions/both/number.json").write_text("2")
    with pytest.raises(IntegrityError, match=r"number.json is altered"):
        promoter.promote()
    assert promoter.client.search_registered_models() == []


def test_a_candidate_that_does_not_load_never_passes_the_gate(
    promoter: Promoter, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoter.make(1, {"f1": 0.9}, broken=True)
    decision = promoter.promote()
    assert decision.result == "broken" and "does not load and predict in a new process" in decision.reason
    assert (promoter.alias("candidate"), promoter.alias("champion")) == ("1", None)
    monkeypatch.setattr(overrides, "load_check", lambda _uri, _tracking: Verdict(False, decision.reason))
    with pytest.raises(ConfigError, match="both version 1 cannot be champion: it does not load"):
        accept(promoter.project, "both")


def test_the_registered_model_embeds_any_text(promoter: Promoter) -> None:
    promoter.make(1, {"f1": 0.5})
    assert "there is no champion" in promoter.promote().reason
    code = """
import sys; sys.path = [path for path in sys.path if path]
import mlflow, numpy as np, pandas as pd
model = mlflow.pyfunc.load_model("models:/cclm-both@candidate")
texts = ["Give me excess of it", "", "x", "na\\u00efve \\U0001d518", "long " * 900]
means = model.predict(texts)
assert [len(row) for row in means] == [8] * 5 and means[1] == [0.0] * 8
rows = model.predict(texts, params={"output": "characters"})
assert [len(row) for row in rows] == [len(text) for text in texts]
assert np.allclose(np.mean(rows[3], axis=0), means[3], atol=1e-5)
for column in (pd.Series(texts), pd.DataFrame({"text": texts})):
    assert np.allclose(model.predict(column), means, atol=1e-4)
assert model.metadata.signature.params and model.input_example is not None
import cclm_core
assert "mlruns" in cclm_core.__file__, cclm_core.__file__
"""
    settings = environment.for_children(without=["MLFLOW_TRACKING_URI"])
    done = subprocess.run([sys.executable, "-c", code], cwd=promoter.root, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list((promoter.root / "mlruns").rglob("*.pkl"))


def test_the_name_of_a_registered_model() -> None:
    assert model_name("full") == "cclm-full"
