"""A small project in which every stage before the report has run."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cclm_core.runtime.reporting import null_report
from cclm_core.steps.params import Params

TOPICS = {
    "card <lost>": ["card", "lost", "stolen", "pin"],
    "refund": ["refund", "money", "return", "back"],
    "parcel": ["parcel", "late", "delivery", "box"],
    "login": ["password", "login", "account", "locked"],
}
FILLERS = ["where is my", "please help with the", "what about a", "i need the", "hello, my"]
ENCODER = {"kind": "attention", "num_layers": 1, "num_heads": 2, "width": 16}
EMBEDDER = {"embedding": {"width": 16, "ngram_buckets": 64}, "encoder": ENCODER}
TRAINING = {"steps": 4, "batch_size": 4, "window": 32, "evaluate_every": 2, "threads": 1}
TASK_TRAINING = {"steps": 4, "batch_size": 8, "evaluate_every": 2}
SOURCE = {"kind": "files", "paths": ["input/tickets.csv"], "columns": {"text": "text", "label": "topic"}}
PROBES = [
    {"probe": "characters", "window": 64, "train_windows": 40, "test_windows": 30, "linear_probe": {"steps": 50}},
    {"probe": "labels", "train_documents": 150, "validation_documents": 30},
]
SETTINGS: dict[str, Any] = {
    "seed": 1,
    "ingest": {"source": SOURCE, "validation_share": 0.15, "test_share": 0.3, "duplicates": "exact"},
    "labeled": {
        "tickets": {"task": "classify", "source": SOURCE, "validation": {"share": 0.15}, "test": {"share": 0.3}}
    },
    "vocabulary": {"min_count": 3},
    "noise": {"rates": [0.1, 0.3]},
    "training_noise": {"rate": 0.02},
    "base": {
        "embedder": EMBEDDER,
        "objectives": [{"task": {"objective": "masked_characters"}}],
        "training": TRAINING,
    },
    "components": {
        name: {"task": {"objective": name}, "encoder": ENCODER, "training": TRAINING}
        for name in ("masked_characters", "characters")
    },
    "compositions": {
        "full": {"parts": ["masked_characters", "characters"]},
        "small": {"parts": ["characters"]},
        "control": {"parts": ["masked_characters", "characters"], "untrained": True},
    },
    "evaluation": {"bootstrap": {"resamples": 100}, "probes": PROBES},
    "tasks": {
        "intent": {"data": "tickets", "composition": "full", "training": TASK_TRAINING},
        "scratch": {"data": "tickets", "embedder": EMBEDDER, "training": TASK_TRAINING},
    },
    "promotion": {"metrics": {"label_accuracy": {"margin": 0.02}}},
}


def write_tickets(path: Path, number: int = 300) -> None:
    """Writes tickets with topics; some are repeated, and one is empty."""
    generator = np.random.default_rng(3)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "topic"])
        writer.writerow(["", "refund"])
        for index in range(number):
            topic = str(generator.choice(list(TOPICS)))
            words = [str(generator.choice(TOPICS[topic])), str(generator.choice(TOPICS[topic]))]
            number_of_ticket = index if index % 20 else 0
            writer.writerow([f"{generator.choice(FILLERS)} {' '.join(words)} nr {number_of_ticket}", topic])


def run_stages(root: Path) -> None:
    """Runs all stages in `root`, the current folder, on input/tickets.csv."""
    from cclm_core.steps.base import base
    from cclm_core.steps.compose import compose
    from cclm_core.steps.evaluate import evaluate
    from cclm_core.steps.finetune import finetune
    from cclm_core.steps.ingest import ingest
    from cclm_core.steps.labeled import labeled
    from cclm_core.steps.noise import noise
    from cclm_core.steps.pretrain import pretrain
    from cclm_core.steps.test import test
    from cclm_core.steps.vocab import vocab

    params = Params(SETTINGS)
    data, models, results, kept = (root / name for name in ("data", "models", "results", "checkpoints"))
    corpus, encoded, noises = data / "corpus", data / "encoded", data / "noise"
    ingest(params, root / "downloads", corpus, null_report, workers=1)
    labeled(params, "tickets", root / "downloads", data / "labeled" / "tickets", null_report)
    vocab(params, corpus, encoded, null_report)
    noise(params, corpus, noises, null_report)
    base(params, encoded, kept / "base", models / "base", null_report)
    parts = models / "components"
    for name in SETTINGS["components"]:
        pretrain(params, name, encoded, models / "base", kept / name, parts / name, null_report)
    for name in SETTINGS["compositions"]:
        made = models / "compositions" / name
        compose(params, name, models / "base", parts, made, null_report)
        evaluate(params, name, made, encoded, noises, results / name, null_report)
    for name in SETTINGS["tasks"]:
        made, measured = models / "tasks" / name, results / "tasks" / name
        folders = (data / "labeled", models / "compositions", encoded)
        finetune(params, name, *folders, kept / f"task-{name}", made, null_report)
        test(params, name, made, data / "labeled", noises, measured, null_report)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, `models` and `results`."""
    pytest.importorskip("sklearn")
    root = tmp_path_factory.mktemp("report") / "project"
    (root / "input").mkdir(parents=True)
    write_tickets(root / "input" / "tickets.csv")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(root)
        run_stages(root)
    return root


@pytest.fixture(scope="session")
def page(project: Path) -> Path:
    """The published page of the project."""
    from cclm_core.steps.report import report

    folders = [project / name for name in ("data", "models", "results")]
    report(Params(SETTINGS), *folders, project / "report", null_report)
    return project / "report" / "report.html"
