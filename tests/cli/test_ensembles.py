"""The commands for tasks work on ensembles, and refuse clearly what these cannot do."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cclm_core.cli.app import app
from cclm_core.finetuning.config import EnsembleConfig, TaskConfig
from cclm_core.finetuning.fuse import fuse_parts
from cclm_core.finetuning.ngram_model import fit_ngrams
from cclm_core.finetuning.store import save_task
from tests.finetuning.tasks import data, texts

pytest.importorskip("sklearn")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the ensemble `both` of two counts of n-grams."""
    labeled = data("classify")
    settings = {"short": {"sizes": [1, 2]}, "long": {"sizes": [1, 4]}}
    parts = {
        name: fit_ngrams(name, labeled, TaskConfig.parse({"data": "x", "model": "ngrams", "ngrams": sizes}, name))[0]
        for name, sizes in settings.items()
    }
    config = EnsembleConfig(parts=tuple(parts))
    ensemble = fuse_parts("both", parts, labeled.train, labeled.validation, config).model
    save_task(ensemble, tmp_path / "models/ensembles/both")
    save_task(parts["long"], tmp_path / "models/tasks/long")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    rows = [f"{text.text},{text.label}\n" for text in texts("classify", 40, 3)]
    (tmp_path / "new.csv").write_text("text,label\n" + "".join(rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cclm(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output + str(result.exception or "")


def test_an_ensemble_predicts_and_is_evaluated_by_its_name(project: Path) -> None:
    code, _ = cclm("predict", "both", "new.csv", "--scores", "--out", "answers.jsonl")
    answers = [json.loads(line) for line in (project / "answers.jsonl").read_text().splitlines()]
    assert code == 0 and len(answers) == 40 and answers[0].keys() == {"id", "label", "score", "scores"}
    code, output = cclm("evaluate", "both", "new.csv", "--noise", "0.1", "--json")
    metrics = json.loads(output)["metrics"]
    assert code == 0 and metrics["clean"]["accuracy"]["value"] > 0.9 and "noise_0.1" in metrics


@pytest.mark.parametrize("name", ["both", "long"])
def test_vectors_and_export_are_refused(name: str, project: Path) -> None:
    code, output = cclm("embed", name, "new.csv", "--out", "vectors.jsonl")
    assert code and f"{name} has no vectors" in output and not (project / "vectors.jsonl").exists()
    pytest.importorskip("transformers")
    folder = "models/ensembles/both" if name == "both" else "models/tasks/long"
    code, output = cclm("export", folder, "hub")
    assert code and "which transformers cannot run. Export a task with a network" in output
