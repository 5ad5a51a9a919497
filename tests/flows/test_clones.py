"""A worker without a shared disk: the pipeline restores results that the worker trained in its own clone."""

import json
import subprocess
from pathlib import Path

import pytest

from cclm_core.runtime.errors import ConfigError
from flows.graph.plan import read_plan
from flows.remote.clones import CloneError, Order, train_in_clone
from flows.remote.workers import committed_revision, push_inputs
from flows.run.dvc_repro import StageError, reproduce
from tests.flows.conftest import Toy
from tests.flows.toy_tasks import add_tasks


def commit(project: Toy, message: str) -> str:
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", message)
    return project.run("git", "rev-parse", "HEAD").stdout.strip()


@pytest.fixture
def worker(done: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A second clone with the same remote as the first clone, `done`."""
    done.params(lambda values: values["components"]["a"].update(width=6))
    return new_worker(done, tmp_path, monkeypatch)


def new_worker(done: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Commits all changes and clones the project."""
    done.dvc("remote", "add", "-d", "storage", str(tmp_path / "storage"))
    commit(done, "wider")
    project = Toy(tmp_path / "worker")
    subprocess.run(["git", "clone", "-q", done.root, project.root], check=True)
    for name, value in done.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return project


@pytest.mark.slow
def test_results_of_a_worker_are_restored(done: Toy, worker: Toy) -> None:
    done.dvc("push", "make")
    (done.root / ".cclm/reports/train@a.jsonl").unlink()
    lock = (done.root / "dvc.lock").read_text()
    order = Order("train@a", committed_revision(done), lock, None, False)
    lines: list[str] = []
    train_in_clone(worker, order, lines.append)
    clone = worker.root / ".cclm/clones/train@a"
    assert (clone / "models/a/manifest.json").is_file() and (clone / ".cclm/reports/train@a.jsonl").is_file()

    result = reproduce(done, read_plan(done).nodes["train@a"], None, False, False, lines.append, pull=True)
    assert result.outcome == "restored"
    assert not (done.root / ".cclm/reports/train@a.jsonl").exists()  # nothing ran here
    assert (done.root / "models/a/content.json").read_bytes() == (clone / "models/a/content.json").read_bytes()
    assert json.loads((done.root / "models/a/content.json").read_text())["width"] == 6
    assert "train@a" not in read_plan(done).stale()


@pytest.mark.slow
def test_a_worker_fetches_all_parts_of_the_folders_that_a_task_reads(
    done: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tasks(done)
    done.dvc("repro")
    done.params(lambda values: values["tasks"]["intent"].update(quality=0.9))
    worker = new_worker(done, tmp_path, monkeypatch)
    lock = (done.root / "dvc.lock").read_bytes()
    node = read_plan(done).nodes["finetune@intent"]
    inputs = push_inputs(done, node, lock)
    assert set(inputs) == {"compositions/both", "compositions/solo", "data/labeled/mails", "data/labeled/tickets"}
    order = Order(node.name, committed_revision(done), lock.decode(), None, False, tuple(inputs))
    train_in_clone(worker, order, lambda _: None)
    result = reproduce(done, node, None, False, False, lambda _: None, pull=True)
    assert result.outcome == "restored" and "finetune@intent" not in read_plan(done).stale()
    assert json.loads((done.root / "tasks/intent/content.json").read_text())["width"] == 0.9


def test_a_missing_result_of_a_worker_is_an_error(done: Toy, worker: Toy) -> None:  # noqa: ARG001
    with pytest.raises(StageError, match="train@a was trained by a worker, but DVC cannot find the result"):
        reproduce(done, read_plan(done).nodes["train@a"], None, False, False, lambda _: None, pull=True)


def test_workers_train_only_committed_revisions_that_they_can_fetch(done: Toy, worker: Toy) -> None:
    with pytest.raises(ConfigError, match=f"revision {'0' * 40} not found in {done.root}, where workers fetch it"):
        train_in_clone(worker, Order("train@a", "0" * 40, "", None, False), lambda _: None)
    with pytest.raises(ConfigError, match="an order must name a full commit and a stage"):
        train_in_clone(worker, Order("train@a", "--upload-pack=x", "", None, False), lambda _: None)
    head = committed_revision(done)
    with pytest.raises(CloneError, match=r"DVC remote of this worker is .*storage\. It must be that of"):
        train_in_clone(worker, Order("train@a", head, "", None, False), lambda _: None)  # no remote has its inputs
    done.params(lambda values: values["components"]["a"].update(width=8))
    with pytest.raises(ConfigError, match=r"workers train a committed revision, but in .* tracked files differ from"):
        committed_revision(done)
