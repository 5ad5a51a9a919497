"""A fine-tuning that is interrupted at any step and resumed gives the same bytes as an uninterrupted one."""

from pathlib import Path

import pytest

from cclm_core.finetuning.fit import TaskRun
from cclm_core.finetuning.store import KIND, write_task
from cclm_core.labeled.examples import LabeledTask
from cclm_core.runtime.artifacts import folder_digest
from cclm_core.runtime.reporting import null_report
from cclm_core.training.run import Artifact, Identity, TrainingRun
from tests.finetuning.tasks import config, data, embedder

CHANGES = {"steps": 12, "checkpoint_every": 4, "evaluate_every": 6, "keep": "best", "batch_size": 8}


class KilledError(Exception):
    """Stands for the death of the process."""


def publish(folder: Path, task: LabeledTask, kill_at: int | None) -> str:
    settings = config(training=CHANGES)
    run = TaskRun("toy", settings, data(task, train=40), embedder(), 1)
    identity = Identity.parse(
        {
            "seed": 1,
            "data": "d",
            "vocabulary": "v",
            "configuration": settings.canonical(),
            "noise": settings.noise.canonical(),
        },
        "card",
    )
    training = TrainingRun(identity, 1, run.trainee, run.loop_data, run.schedule)

    def report(step: int, *_: object) -> None:
        if kill_at is not None and step >= kill_at:
            raise KilledError

    artifact = Artifact(KIND, run.model, write_task, finish=run.finish)
    training.publish(folder / "checkpoints", folder / "out", artifact, null_report if kill_at is None else report)
    return folder_digest(folder / "out")


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_an_interrupted_fine_tuning_resumes_exactly(task: LabeledTask, tmp_path: Path) -> None:
    whole = publish(tmp_path / "whole", task, None)
    with pytest.raises(KilledError):
        publish(tmp_path / "killed", task, 6)
    assert list((tmp_path / "killed" / "checkpoints").rglob("step-*"))
    assert publish(tmp_path / "killed", task, None) == whole
