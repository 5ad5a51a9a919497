"""The lineage of a registered composition, by the tags of its version and by `cclm lineage`."""

import json
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cclm_core.runtime.artifacts import folder_digest, publishing, write_json
from cclm_core.runtime.errors import ConfigError
from cclm_core.steps import pretrain
from cclm_core.training.code import dependency_digest
from flows.gate.lineage import Lineage
from flows.graph.plan import read_plan
from tests.flows.conftest import Toy


@pytest.mark.slow
def test_a_registered_version_names_the_runs_of_its_whole_lineage(
    done: Toy, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done.environment.update({"CCLM_TRACKING": "on", "TOY_MODEL": str(model), "MLFLOW_DISABLE_TELEMETRY": "true"})
    done.params(lambda values: [component.update(width=9) for component in values["components"].values()])
    done.dvc("repro")
    monkeypatch.chdir(done.root)
    done.run(sys.executable, "-m", "flows.cli", "promote")
    client = MlflowClient(f"sqlite:///{done.root / 'mlflow.db'}")
    tags = client.get_model_version("cclm-both", "1").tags
    lineage = json.loads(tags["cclm.lineage"])
    for name in ("a", "b"):
        digest = folder_digest(done.root / "models" / name)
        assert lineage[f"component.{name}"]["digest"] == digest
        trained = client.get_run(lineage[f"component.{name}"]["run"]).data
        assert trained.tags["dvc.stage"] == f"train@{name}" and trained.tags[f"digest.out.models/{name}"] == digest
        assert trained.params[f"components.{name}.width"] == "9"
    assert client.get_run(tags["cclm.composition.run"]).data.tags["dvc.stage"] == "compose@both"
    assert client.get_run(tags["cclm.evaluation.run"]).data.tags["dvc.stage"] == "evaluate@both"
    assert lineage["corpus"]["digest"] == folder_digest(done.root / "data/corpus")

    client.set_tag(lineage["component.a"]["run"], "cclm.parent", "0123456789abcdef")
    top = json.loads(done.run(sys.executable, "-m", "flows.cli", "lineage", "both", "--json").stdout)
    assert (top["name"], top["kind"], top["run"]["id"]) == ("both", "composition", tags["cclm.composition.run"])
    parts = {part["name"]: part for part in top["made_from"]}
    assert parts["a"]["run"]["id"] == lineage["component.a"]["run"] and parts["a"]["run"]["started"] > 1e9
    assert parts["a"]["run"]["parent"] == "0123456789abcdef" and parts["b"]["run"]["parent"] is None
    assert [source["kind"] for source in parts["a"]["made_from"]] == ["corpus"]
    output = done.run(sys.executable, "-m", "flows.cli", "lineage", "both").stdout
    assert "replacing 0123456789ab" in output and lineage["component.b"]["run"] in output


def test_lineage_follows_the_card_and_not_the_current_files(done: Toy) -> None:
    old = folder_digest(done.root / "models/a")
    other = folder_digest(done.root / "models/b")
    with publishing(done.root / "compositions/both", "composition") as folder:
        write_json(folder / "card.json", {"parts": [old, other], "seed": 3})
        write_json(folder / "composition.json", {"parts": ["a", "b"]})
    with publishing(done.root / "models/a", "component") as folder:
        write_json(folder / "card.json", {"code": "retrained since"})
    lineage = Lineage(done, read_plan(done, changes=False), None)
    top = lineage.of("both")
    assert top.facts == {"seed": 3}
    assert [(part.name, part.digest, part.here) for part in top.made_from] == [("a", old, False), ("b", other, True)]
    assert lineage.of("a").facts == {"code": "retrained since"} and lineage.of("train@a").kind == "component"


def test_an_unknown_or_missing_result_is_refused(project: Toy) -> None:
    lineage = Lineage(project, read_plan(project, changes=False), None)
    with pytest.raises(ConfigError, match=r"bath is not a composition.* did you mean 'both'"):
        lineage.of("bath")
    with pytest.raises(ConfigError, match="compositions/both not found"):
        lineage.of("both")


def test_the_code_digest_of_a_card_covers_the_files_that_dvc_depends_on() -> None:
    from cclm_core.training.code import dependencies
    from tests.test_stage_graph import used

    for stage in ("base", "pretrain"):
        files = used(stage)
        modules = {"/".join(module.split(".")) for module in dependencies(f"cclm_core.steps.{stage}")}
        assert modules == {file.removesuffix(".py").removesuffix("/__init__") for file in files}
    assert dependency_digest(pretrain.__name__) != dependency_digest("cclm_core.steps.base")
