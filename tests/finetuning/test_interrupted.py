"""The stage `finetune`, killed with SIGKILL at random steps, publishes the same bytes as without a kill."""

import multiprocessing
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cclm_core.composition import Component, ComponentCard, save
from cclm_core.composition.composed import ComposedModel
from cclm_core.encoders import AttentionConfig
from cclm_core.labeled.examples import write_labeled
from cclm_core.runtime.artifacts import publishing, verify
from cclm_core.runtime.random import derive
from cclm_core.steps.finetune import finetune
from cclm_core.steps.params import Params
from tests.finetuning.tasks import embedder, texts

STEPS, KILLS = 40, 5
SETTINGS: dict[str, Any] = {
    "data": "toy",
    "training": {
        "steps": STEPS,
        "batch_size": 8,
        "evaluate_every": 10,
        "checkpoint_every": 6,
        "learning_rate": 0.01,
        "max_characters": 64,
    },
}
TASKS: dict[str, dict[str, Any]] = {
    "all": {"composition": "small"},
    "top": {"composition": "small", "train": "top", "training": SETTINGS["training"] | {"keep": "best"}},
}


def new_composition(folder: Path) -> None:
    """Publishes a small composition with random weights."""
    base = embedder()
    card = ComponentCard(
        name="a",
        objective="entities",
        base_width=base.width,
        base_digest=base.digest,
        preprocessor_digest=base.preprocessor.digest,
        encoder=AttentionConfig(num_layers=1, num_heads=2, width=16),
    )
    folder.parent.mkdir(exist_ok=True)
    save(ComposedModel(base, [Component(card)], "small"), folder)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a labeled set and a composition."""
    root = tmp_path_factory.mktemp("inputs")
    new_composition(root / "compositions" / "small")
    splits = {"train": texts("classify", 96, 1), "validation": texts("classify", 24, 2), "test": []}
    (root / "labeled").mkdir()
    with publishing(root / "labeled" / "toy", "labeled") as folder:
        write_labeled(folder, "classify", splits, ["channel"])
    return root


def run(inputs: str, folder: str, task: str, killed_at: int) -> None:
    """Runs the stage, and kills this process at a step, or at the end if it is `STEPS`."""
    torch.set_num_threads(1)

    def report(step: int, _values: Mapping[str, float], _total: int | None) -> None:
        if step >= killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    params = Params({"seed": 1, "tasks": {task: SETTINGS | TASKS[task]}})
    root, target = Path(inputs), Path(folder)
    compositions, labeled = root / "compositions", root / "labeled"
    finetune(
        params, task, labeled, compositions, root, target / "checkpoints", target / "out", report, target / "c.csv"
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.slow
def test_a_killed_finetuning_publishes_the_same_bytes(inputs: Path, tmp_path: Path, task: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo", "sklearn.linear_model"])

    def exit_code(name: str, killed_at: int) -> int | None:
        (tmp_path / name).mkdir(exist_ok=True)
        process = context.Process(target=run, args=(str(inputs), str(tmp_path / name), task, killed_at))
        process.start()
        process.join(120)
        return process.exitcode

    assert exit_code("whole", STEPS + 1) == 0
    steps = sorted(derive(1, "kills", task).choice(STEPS - 2, size=KILLS, replace=False).tolist())
    for step in steps:  # each process resumes from the last checkpoint
        assert exit_code("killed", 1 + step) == -signal.SIGKILL, step
        assert not (tmp_path / "killed" / "out").exists()
    assert exit_code("killed", STEPS + 1) == 0
    assert verify(tmp_path / "killed" / "out", "task") == verify(tmp_path / "whole" / "out", "task")
    for path in sorted((tmp_path / "whole" / "out").rglob("*")):
        if path.is_file():
            copy = tmp_path / "killed" / "out" / path.relative_to(tmp_path / "whole" / "out")
            assert copy.read_bytes() == path.read_bytes(), path.name
    weights = load_file(tmp_path / "whole" / "out" / "head.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values()) and weights
