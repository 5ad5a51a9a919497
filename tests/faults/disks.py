"""Full disks and damaged checkpoints.

A small disk is a tmpfs in its own mount namespace, which needs no privileges: `unshare` creates the namespace,
processes enter it to use the disk, and the test reads the disk through /proc.
"""

import dataclasses
import errno
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cclm_core.runtime.artifacts import verify
from tests.faults.pipeline import SECONDS, TRAIN, TRAINING, Pipeline

if TYPE_CHECKING:  # imports torch, which takes longer than most of these trials
    from tests.training.interrupted import Trial as Training

REPOSITORY = Path(__file__).parents[2]
TRAIN_HERE = "import json, sys; from tests.training.interrupted import Trial, run_trial; "
TRAIN_HERE += "run_trial(Trial(*json.loads(sys.argv[1])))"
KILOBYTE = 1024


@dataclasses.dataclass(frozen=True)
class Disk:
    """A small disk mounted on `folder` while the process `holder` runs."""

    folder: Path
    holder: int

    @property
    def seen(self) -> Path:
        """The folder as processes in the namespace see it."""
        return Path(f"/proc/{self.holder}/root{self.folder}")

    def within(self, cwd: Path) -> list[str]:
        """The start of a command that uses the disk."""
        enter = ["nsenter", f"--target={self.holder}", "--user", "--mount", "--preserve-credentials"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(cwd)]

    def fill(self, num_left: int = 0) -> None:
        """Fills the disk except for `num_left` bytes, and checks that it was full."""
        filler = self.seen / "filler"
        with filler.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left") as failed:
            while True:
                stream.write(bytes(4 * KILOBYTE))
        assert failed.value.errno == errno.ENOSPC
        with filler.open("r+b") as stream:
            stream.truncate(filler.stat().st_size - num_left)

    def free(self) -> None:
        """Undoes `fill`."""
        (self.seen / "filler").unlink()


@contextmanager
def small_disk(folder: Path, num_bytes: int) -> Iterator[Disk]:
    """Mounts a small disk on a folder, with the folder's content; copies the disk's content back afterwards."""
    folder.mkdir(exist_ok=True)
    copy = folder.with_name(f"{folder.name}-before")
    shutil.copytree(folder, copy)
    mount = f'mount -t tmpfs -o size={num_bytes} none "$0" && cp -a "$1/." "$0" && echo mounted && exec sleep 3600'
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(folder), str(copy)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stderr
        if holder.stdout.readline() != "mounted\n":
            pytest.skip(f"a small disk cannot be mounted here: {holder.stderr.read()}")
        try:
            disk = Disk(folder, holder.pid)
            yield disk
            for path in folder.iterdir():  # not the folder itself: removing the mount point removes the mount
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copytree(disk.seen, folder, dirs_exist_ok=True)
        finally:
            holder.kill()


def publishing(pipeline: Pipeline) -> None:
    """The disk is full when the component is published: the former one is kept."""
    with small_disk(pipeline.root / "models", 1024 * KILOBYTE) as disk:
        before = {name: verify(disk.seen / name, "component") for name in ("a", "b")}
        disk.fill(num_left=int(TRAINING["bytes"]) // 2)
        pipeline.within = disk.within(pipeline.root)
        assert pipeline.start(*TRAIN, held=False).wait(SECONDS) == 1
        assert "No space left on device" in pipeline.output()
        assert {name: verify(disk.seen / name, "component") for name in before} == before
        assert not list(disk.seen.glob(".a.writing"))
        disk.free()
        pipeline.again()
    pipeline.within = []
    pipeline.check()


def tracking(pipeline: Pipeline) -> None:
    """The disk with MLflow's store is full while a component trains: the training succeeds with a warning."""
    store = pipeline.folder / "store"
    store.mkdir()
    shutil.move(pipeline.root / "mlflow.db", store)
    pipeline.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{store / 'mlflow.db'}"
    with small_disk(store, (store / "mlflow.db").stat().st_size + 1024 * KILOBYTE) as disk:
        pipeline.within = disk.within(pipeline.root)
        run = pipeline.start(*TRAIN)
        disk.fill()
        pipeline.release()
        assert run.wait(SECONDS) == 0, pipeline.output()
        assert "disk is full" in pipeline.output() and "train@a is not tracked in MLflow" in pipeline.output()
        pipeline.is_whole()
        disk.free()
        pipeline.again()
    pipeline.within = []
    pipeline.check()


def checkpoint(pipeline: Pipeline) -> None:
    """The disk is full when the third checkpoint of a real training is written."""
    from tests.training.test_interrupted import CHECKPOINT_EVERY, check

    whole, trial = trained(pipeline.folder)
    (newest, *_) = (pipeline.folder / "whole/checkpoints").rglob("step-*")
    size = newest.stat().st_size
    with small_disk(Path(trial.folder) / "checkpoints", 5 * size // 2) as disk:
        words = [*disk.within(REPOSITORY), sys.executable, "-c", TRAIN_HERE, json.dumps(trial)]
        failed = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert failed.returncode == 1 and "No space left on device" in failed.stderr
        assert steps(disk.seen) == [CHECKPOINT_EVERY, 2 * CHECKPOINT_EVERY]
        grow = ["mount", "-o", f"remount,size={10 * size}", str(disk.folder)]
        subprocess.run([*disk.within(REPOSITORY), *grow], check=True)
        subprocess.run(words, cwd=REPOSITORY, check=True)
    check(trial, whole, num_kills=1)


def truncated(pipeline: Pipeline) -> None:
    """The newest checkpoint of a killed training is truncated: the training resumes from the previous one."""
    from tests.training.test_interrupted import CHECKPOINT_EVERY, check

    whole, trial = trained(pipeline.folder)
    killed = trial._replace(moment="forward", step=3 * CHECKPOINT_EVERY)
    assert train(killed) == -signal.SIGKILL
    folder = Path(trial.folder) / "checkpoints"
    assert steps(folder) == [2 * CHECKPOINT_EVERY, 3 * CHECKPOINT_EVERY]
    newest = max(folder.rglob("step-*"))
    content = newest.read_bytes()
    newest.write_bytes(content[: len(content) // 2])
    assert train(trial) == 0
    check(trial, whole, num_kills=2)  # two faults: the kill and the lost checkpoint


def trained(folder: Path) -> "tuple[Training, Training]":
    """An undisturbed training, and the same training in another folder, not yet started."""
    from cclm_core.text.vocabulary import TargetsConfig
    from tests.corpora import encode, records
    from tests.training.interrupted import Trial as Training
    from tests.training.test_interrupted import CHANGES

    encode(folder / "encoded", records(60), TargetsConfig(min_count=1))
    whole = Training({"objective": "entities"}, CHANGES, str(folder / "encoded"), str(folder / "whole"))
    disturbed = whole._replace(folder=str(folder / "disturbed"))
    for trial in (whole, disturbed):
        Path(trial.folder).mkdir()
    assert train(whole) == 0
    return whole, disturbed


def train(trial: "Training") -> int:
    """Trains in a subprocess and returns its exit status."""
    return subprocess.run([sys.executable, "-c", TRAIN_HERE, json.dumps(trial)], cwd=REPOSITORY, check=False).returncode


def steps(checkpoints: Path) -> list[int]:
    """The steps of the existing checkpoints."""
    return sorted(int(path.name.split("-")[1]) for path in checkpoints.rglob("step-*"))


TRIALS: dict[str, Callable[[Pipeline], None]] = {
    "disk full while a component is published": publishing,
    "disk full while MLflow's store is written": tracking,
}
# Trainings without the pipeline.
CHECKPOINTS: dict[str, Callable[[Pipeline], None]] = {
    "disk full while a checkpoint is written": checkpoint,
    "newest checkpoint truncated": truncated,
}
