"""The stages `fuse` and `measure`, from the models of two tasks to a published ensemble and its results."""

import csv
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from cclm_core.evaluation.metrics import read_metrics
from cclm_core.finetuning.ensemble import Ensemble
from cclm_core.finetuning.outcomes import read_outcomes
from cclm_core.finetuning.store import load_task
from cclm_core.labeled.examples import write_labeled
from cclm_core.noise.misspellings import write_misspellings
from cclm_core.runtime.artifacts import folder_digest, publishing, verify
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.finetune import finetune
from cclm_core.steps.fuse import fuse
from cclm_core.steps.measure import measure
from cclm_core.steps.params import Params
from tests.corpora import encode, records
from tests.finetuning.tasks import texts

pytest.importorskip("sklearn")

SMALL = {"embedding": {"width": 16, "ngram_buckets": 64}, "encoder": {"kind": "attention", "width": 16}}
TASKS: dict[str, Any] = {
    "net": {
        "data": "toy",
        "embedder": SMALL,
        "ngrams": None,
        "training": {"steps": 20, "batch_size": 16, "evaluate_every": 20, "learning_rate": 0.01},
    },
    "counts": {"data": "toy", "model": "ngrams", "noised_copies": [0.1]},
    "elsewhere": {"data": "other", "model": "ngrams"},
}
_SIZES = {"train": 96, "validation": 210, "test": 64}


def params(**ensemble: Any) -> Params:
    entry = {"parts": ["net", "counts"], "noise": {"rates": [0.1]}} | ensemble
    sections = {"seed": 1, "noise": {"rates": [0.1]}, "tasks": TASKS, "ensembles": {"all": entry}}
    return Params(sections | {"labeled": {"toy": {}, "other": {}}, "compositions": {}})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for name, first in (("toy", 0), ("other", 10)):
        splits = {split: texts("classify", number, first + seed) for seed, (split, number) in enumerate(_SIZES.items())}
        with publishing(root / "labeled" / name, "labeled") as folder:
            write_labeled(folder, "classify", splits, ["channel"])
    with publishing(root / "noise", "noise") as folder:
        write_misspellings(folder / "misspellings.csv", {})
    encode(root / "encoded", records(20))
    for name in TASKS:
        finetune(
            params(),
            name,
            root / "labeled",
            root / "compositions",
            root / "encoded",
            root / "checkpoints" / name,
            root / "tasks" / name,
            null_report,
            root / f"{name}.csv",
        )
    return root


def run(project: Path, out: Path, settings: Params) -> Path:
    fuse(settings, "all", project / "tasks", project / "labeled", out / "all", null_report)
    return out / "all"


def test_a_task_of_n_grams_has_the_files_of_a_task(project: Path) -> None:
    verify(project / "tasks/counts", "task")
    card = json.loads((project / "tasks/counts/card.json").read_text())
    assert card["stage"] == "finetune" and len(card["data"]) == 64 and "vocabulary" not in card
    assert (project / "counts.csv").read_text().splitlines()[0] == "step,held_out_accuracy"
    assert json.loads((project / "tasks/counts/metrics.json").read_text())["ngrams"] > 100
    assert (project / "tasks/counts/README.md").is_file()


def test_an_ensemble_is_published_and_measured_next_to_its_parts(project: Path, tmp_path: Path) -> None:
    settings = params(subsets=False)
    folder = run(project, tmp_path, settings)
    verify(folder, "task")
    model = load_task(folder)
    assert isinstance(model, Ensemble) and model.card.parts == ("net", "counts")
    choice = json.loads((folder / "choice.json").read_text())
    assert choice["chosen"]["parts"] == ["net", "counts"] and choice["validation_texts"] == 210
    assert choice["parts"]["counts"].keys() >= {"alone", "without", "weight_clean", "weight_noised"}
    assert choice["megabytes"]["net"] > 0 and {row["weights"] for row in choice["candidates"]} >= {"equal", "by_text"}
    card = json.loads((folder / "card.json").read_text())
    assert card["names"] == ["net", "counts"] and card["parts"][0] == folder_digest(project / "tasks/net")
    assert "net, counts" in (folder / "README.md").read_text()

    results = tmp_path / "results"
    inputs = project / "tasks", project / "labeled", project / "noise"
    measure(settings, "all", folder, *inputs, results, null_report, tmp_path / "metrics.json", tmp_path / "curve.csv")
    verify(results, "evaluation")
    metrics = read_metrics(results)
    assert {peer.name for peer in metrics["accuracy_noise_0.1"].baselines} == {"net", "counts"}
    best = max(metrics[f"accuracy_{name}"].value for name in ("net", "counts"))
    assert metrics["gain/accuracy"].value == pytest.approx(metrics["accuracy"].value - best)
    assert metrics["worse_than_best_part"].value == 0
    assert {name for name, _ in read_outcomes(results)} == {"clean", "noise_0.1"}
    with (results / "parts.csv").open() as stream:
        assert [row["part"] for row in csv.DictReader(stream)] == ["net", "counts"] * 2
    assert "rate,metric,value" in (tmp_path / "curve.csv").read_text()
    assert json.loads((tmp_path / "metrics.json").read_text())["worse_than_best_part"] == 0


def test_the_same_parts_give_the_same_bytes(project: Path, tmp_path: Path) -> None:
    first, again = (folder_digest(run(project, tmp_path / name, params())) for name in ("first", "again"))
    assert first == again


def killed(project: str, out: str) -> None:
    """Runs the stage, and kills this process while it writes."""
    import cclm_core.steps.fuse as stage

    def write(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    stage.write_card = write
    run(Path(project), Path(out), params())


def test_a_killed_stage_leaves_the_old_ensemble_and_the_next_run_gives_the_same_bytes(
    project: Path, tmp_path: Path
) -> None:
    before = folder_digest(run(project, tmp_path, params(weights="equal")))
    process = multiprocessing.get_context("fork").Process(target=killed, args=(str(project), str(tmp_path)))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert verify(tmp_path / "all", "task") == before
    resumed = folder_digest(run(project, tmp_path, params()))
    assert resumed == folder_digest(run(project, tmp_path / "whole", params()))
    assert not list(tmp_path.glob(".all.writing"))


def test_missing_and_different_parts_are_explained(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"ensembles.all.parts: nett not found in .*did you mean 'net'"):
        run(project, tmp_path, params(parts=["nett"]))
    with pytest.raises(ConfigError, match="must all have the same `data`, got net: toy, elsewhere: other"):
        run(project, tmp_path, params(parts=["net", "elsewhere"]))
    tasks = tmp_path / "tasks"
    shutil.copytree(project / "tasks", tasks)
    shutil.copytree(project / "labeled", tmp_path / "labeled")
    splits = {split: texts("classify", 9, 7) for split in _SIZES} | {"test": []}
    with publishing(tmp_path / "labeled/toy", "labeled") as folder:
        write_labeled(folder, "classify", splits, [])
    with pytest.raises(ArtifactError, match="the part net was trained on other texts than"):
        fuse(params(), "all", tasks, tmp_path / "labeled", tmp_path / "all", null_report)
    ensemble = run(project, tmp_path, params())
    with pytest.raises(DataError, match="test split"):
        measure(params(), "all", ensemble, tasks, tmp_path / "labeled", project / "noise", tmp_path / "r", null_report)
    with pytest.raises(ArtifactError, match="must be an ensemble"):
        inputs = tasks / "net", tasks, project / "labeled", project / "noise"
        measure(params(), "all", *inputs, tmp_path / "r", null_report)


def test_references_of_ensembles_are_checked_before_anything_runs() -> None:
    settings = {"labeled": {"toy": {}, "other": {}}, "tasks": TASKS, "compositions": {}}
    with pytest.raises(ConfigError, match=r"ensembles.all.parts: 'nett' not found in tasks; did you mean 'net'"):
        Params(settings | {"ensembles": {"all": {"parts": ["nett"]}}})._check_tasks()
    with pytest.raises(ConfigError, match=r"ensembles.all.parts must all have the same `data`"):
        Params(settings | {"ensembles": {"all": {"parts": ["net", "elsewhere"]}}})._check_tasks()
    with pytest.raises(ConfigError, match=r"tasks.net and ensembles.Net have the same name, .* cclm-Net. Rename"):
        Params(settings | {"ensembles": {"Net": {"parts": ["net"]}}})
