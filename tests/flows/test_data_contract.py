"""`cclm data accept` and `cclm data show`, and what DVC makes of them: accepting changes no corpus."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cclm_core.ingest.profile import ACCEPTED, PROFILE
from cclm_core.runtime.errors import ConfigError
from cclm_core.steps.ingest import CHECKS
from flows.graph.plan import read_plan
from flows.run import data_contract
from flows.run.data_contract import CONTRACT, REFUSED, accept, data_status, show
from tests.flows.conftest import Toy

ROOT = Path(__file__).parents[2]
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def test_the_folders_are_those_of_the_stage() -> None:
    assert f"--accepted {CONTRACT} --checks data/checks --refused {REFUSED} " in STAGES["ingest"]["cmd"]
    assert (data_contract.KIND, data_contract.PROFILE, data_contract.ACCEPTED) == (CHECKS, PROFILE, ACCEPTED)
    assert CONTRACT in STAGES["ingest"]["deps"] and STAGES["ingest"]["outs"] == ["data/corpus", "data/checks"]


def write(project: Toy, labels: list[str]) -> None:
    rows = [{"text": f"card {number} was lost", "label": labels[number % len(labels)]} for number in range(300)]
    (project.root / "input/a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Toy:
    """A project with the stages `ingest` and `vocab` of this repository."""
    toy = Toy(template).copy(tmp_path / "project")
    stages = {name: dict(STAGES[name]) for name in ("ingest", "vocab")}
    for stage in stages.values():
        stage["deps"] = [dep for dep in stage["deps"] if not dep.startswith("cclm_core")]
    (toy.root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    source = {"kind": "files", "paths": ["input/a.jsonl"], "columns": {"label": "label"}}
    expectations = [{"expectation": "labels", "action": "stop"}, "bytes"]
    section = {"source": source, "validation_share": 0.2, "test_share": 0.2, "expectations": expectations}
    (toy.root / "params.yaml").write_text(yaml.safe_dump({"seed": 1, "ingest": section, "vocabulary": {}}))
    for name in ("input", CONTRACT):
        (toy.root / name).mkdir()
    shutil.copy(ROOT / CONTRACT / "README.md", toy.root / CONTRACT)
    toy.environment["PYTHONPATH"] = str(ROOT)
    write(toy, ["card", "refund"])
    return toy


def test_data_are_accepted_stopped_and_accepted_again(project: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"no checked data found\. Run `cclm run --target ingest`"):
        accept(project, False, False)
    project.dvc("repro")
    before = project.digests()
    accept(project, False, False)
    assert "Accepted 300 texts of the source.\n" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"no refused data found"):
        accept(project, True, False)
    repeated = project.dvc("repro").stdout
    after = project.digests()
    assert after["data/corpus"] == before["data/corpus"] and after["data/checks"] != before["data/checks"]
    assert "Stage 'vocab' didn't change, skipping" in repeated
    status = data_status(project, read_plan(project, changes=False))
    assert status and status.accepted and status.met == 2 and status.not_compared == ()
    assert next(iter(status.lines())) == "Expectations on the data: all 2 that could be compared are met."

    write(project, ["card", "card", "card", "login"])
    failed = project.dvc("repro", "ingest", check=False)
    assert failed.returncode and "the incoming data do not meet an expectation" in failed.stderr
    assert project.digests() == after and (project.root / "data/corpus/manifest.json").is_file()
    status = data_status(project, read_plan(project, changes=False))
    assert status and len(status.refused) == 1 and "login: 25.00%, accepted 0.00%" in status.refused[0]
    accept(project, True, True)
    assert json.loads(capsys.readouterr().out) == {
        "path": "contract/accepted.json",
        "texts": {"source": 300},
        "has_vocabulary": True,
    }
    project.dvc("repro", "ingest")
    assert not (project.root / REFUSED).exists()
    show(project, False)
    output = capsys.readouterr().out
    assert "distance between the shares of labels" in output and "all 2 that could be compared are met" in output
    show(project, True)
    assert json.loads(capsys.readouterr().out)["met"] == 2
