"""The stages `finetune` and `test`, from a labeled set to published results."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import write
from cclm_core.evaluation.metrics import read_metrics
from cclm_core.finetuning.config import TaskConfig
from cclm_core.finetuning.outcomes import read_outcomes
from cclm_core.finetuning.store import load_task
from cclm_core.labeled.examples import write_labeled
from cclm_core.noise.misspellings import write_misspellings
from cclm_core.runtime.artifacts import folder_digest, publishing, verify
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.finetune import finetune
from cclm_core.steps.params import Params
from cclm_core.steps.test import test as measure_task
from cclm_core.training.component import component_card
from cclm_core.training.config import ComponentConfig
from tests.corpora import encode, records
from tests.finetuning.tasks import embedder, texts

pytest.importorskip("sklearn")

TRAINING = {"steps": 60, "batch_size": 16, "evaluate_every": 30, "learning_rate": 0.01}
TASK = {"data": "toy", "composition": "full", "ngrams": None, "training": TRAINING}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    for task in ("classify", "tag"):
        splits = {name: texts(task, number, seed) for seed, (name, number) in enumerate(_SIZES.items())}
        with publishing(root / "labeled" / task, "labeled") as folder:
            write_labeled(folder, task, splits, ["channel"])
    base = embedder()
    component = ComponentConfig.parse(
        {"task": {"objective": "masked_characters"}, "encoder": {"kind": "attention", "width": 16}}, "component"
    )
    torch.manual_seed(1)
    part = Component(component_card(base, "part", component))
    with publishing(root / "compositions" / "full", "composition") as folder:
        write(ComposedModel(base, [part]), folder)
    with publishing(root / "noise", "noise") as folder:
        write_misspellings(folder / "misspellings.csv", {})
    encode(root / "encoded", records(20))
    return root


_SIZES = {"train": 96, "validation": 32, "test": 64}


def params(**changes: Any) -> Params:
    sections = {"seed": 1, "noise": {"rates": [0.1]}, "tasks": {"toy": TASK | changes}}
    return Params(sections | {"labeled": {}, "compositions": {}})


def run(project: Path, out: Path, settings: Params) -> Path:
    folders = {name: project / name for name in ("labeled", "compositions", "encoded")}
    finetune(settings, "toy", **folders, checkpoints=out / "checkpoints", out=out / "task", report=null_report)
    return out / "task"


@pytest.mark.parametrize(("data", "metric"), [("classify", "accuracy"), ("tag", "entity_f1")])
def test_a_task_is_trained_measured_and_published(project: Path, tmp_path: Path, data: str, metric: str) -> None:
    settings = params(data=data)
    task = run(project, tmp_path, settings)
    results = tmp_path / "results"
    measure_task(settings, "toy", task, project / "labeled", project / "noise", results, null_report)
    verify(task, "task")
    verify(results, "evaluation")
    metrics = read_metrics(results)
    assert metrics[metric].value > 0.9 and metrics[metric].interval is not None and metrics[metric].documents == 64
    assert metrics[f"{metric}_noise_0.1"].value <= metrics[metric].value
    assert "ngrams" in {peer.name for peer in metrics[metric].baselines}
    assert {name for name, _ in read_outcomes(results)} == {"clean", "noise_0.1"}
    rows = (results / "slices.csv").read_text().splitlines()
    assert rows[0] == "slice,value,texts,metric,score,low,high"
    kinds = {row.partition(",")[0] for row in rows[1:]}
    assert {"label", "channel", "characters"} <= kinds and ("entities" in kinds) is (data == "tag")
    card = json.loads((task / "card.json").read_text())
    assert card["stage"] == "finetune" and card["name"] == "toy" and len(card["base"]) == 64


def test_the_same_parameters_give_the_same_bytes_and_the_composition_does_not_change(
    project: Path, tmp_path: Path
) -> None:
    settings = params(data="classify", training=TRAINING | {"steps": 3})
    before = folder_digest(project / "compositions" / "full")
    first, again = (run(project, tmp_path / name, settings) for name in ("first", "again"))
    assert folder_digest(first) == folder_digest(again)
    assert folder_digest(project / "compositions" / "full") == before


def test_a_finished_training_is_resumed_from_its_last_checkpoint(project: Path, tmp_path: Path) -> None:
    settings = params(data="classify", training=TRAINING | {"steps": 3})
    first = folder_digest(run(project, tmp_path, settings))
    steps: list[int] = []
    folders = {name: project / name for name in ("labeled", "compositions", "encoded")}
    finetune(
        settings,
        "toy",
        **folders,
        checkpoints=tmp_path / "checkpoints",
        out=tmp_path / "task",
        report=lambda step, *_: steps.append(step),
    )
    assert folder_digest(tmp_path / "task") == first and not steps


def test_a_task_without_a_composition_starts_from_the_vocabulary_of_the_corpus(project: Path, tmp_path: Path) -> None:
    small = {"embedding": {"width": 16, "ngram_buckets": 64}, "encoder": {"kind": "attention", "width": 16}}
    settings = params(data="classify", composition=None, embedder=small, training=TRAINING | {"steps": 2})
    model = load_task(run(project, tmp_path, settings))
    assert model.encoder.width == 16
    assert "base" not in json.loads((tmp_path / "task" / "card.json").read_text())


def test_missing_inputs_are_explained(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tasks.toy.data: clasify not found .*classify"):
        run(project, tmp_path, params(data="clasify"))
    with pytest.raises(ArtifactError, match=r"tasks.toy.composition: fool not found"):
        run(project, tmp_path, params(data="classify", composition="fool"))
    with pytest.raises(ConfigError, match=r"tasks.toi not found"):
        params().named(TaskConfig, "toi")
    with publishing(tmp_path / "labeled" / "empty", "labeled") as folder:
        write_labeled(folder, "classify", {"train": texts("classify", 9, 1), "validation": [], "test": []}, [])
    with pytest.raises(DataError, match="test split"):
        settings = params(data="empty")
        measure_task(settings, "toy", tmp_path, tmp_path / "labeled", project / "noise", tmp_path / "out", null_report)


def test_references_of_tasks_are_checked_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"tasks.toy.data: 'toy' not found in labeled"):
        params()._check_tasks()
