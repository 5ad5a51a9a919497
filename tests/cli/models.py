"""Small published models for the tests of commands."""

from pathlib import Path

from cclm_core.composition.store import save
from cclm_core.finetuning.fit import fine_tune
from cclm_core.finetuning.store import save_task
from cclm_core.labeled.examples import LabeledTask
from tests.finetuning import tasks


def publish_task(folder: Path, task: LabeledTask, is_pair: bool = False, steps: int = 60) -> Path:
    """Trains a toy task and publishes it; the answer is visible in the text."""
    settings = tasks.CONFIG | {"training": tasks.CONFIG["training"] | {"steps": steps}}
    model = fine_tune("toy", tasks.data(task, is_pair), tasks.embedder(), settings)
    save_task(model, folder / task)
    return folder / task


def publish_base(folder: Path) -> Path:
    """Publishes an embedder with random weights."""
    save(tasks.embedder(), folder / "base")
    return folder / "base"
