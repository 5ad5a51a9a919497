"""A worker without the shared disk: what it trains in its own clone is restored, not trained, by the pipeline."""

import subprocess
from pathlib import Path

import pytest

from cclm_core.runtime.errors import ConfigError
from flows.graph.plan import read_plan
from flows.remote.clones import CloneError, Order, train_in_clone
from flows.remote.workers import committed_revision
from flows.run.dvc_repro import StageError, reproduce
from tests.flows.conftest import Toy


def commit(project: Toy, message: str) -> str:
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", message)
    return project.run("git", "rev-parse", "HEAD").stdout.strip()


@pytest.fixture
def worker(done: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A second clone, whose remote is the storage that the first one, `done`, pushes to."""
    done.dvc("remote", "add", "-d", "storage", str(tmp_path / "storage"))
    done.params(lambda values: values["components"]["a"].update(width=6))
    commit(done, "wider")
    project = Toy(tmp_path / "worker")
    subprocess.run(["git", "clone", "-q", done.root, project.root], check=True)
    for name, value in done.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return project


@pytest.mark.slow
def test_what_a_worker_trained_is_restored(done: Toy, worker: Toy) -> None:
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
    assert (
        '"width": 6' in (done.root / "models/a/content.json").read_text()
        or '"width":6' in (done.root / "models/a/content.json").read_text()
    )
    assert "train@a" not in read_plan(done).stale()


def test_what_no_worker_trained_is_refused_here(done: Toy, worker: Toy) -> None:  # noqa: ARG001
    with pytest.raises(StageError, match="train@a was trained by a worker, but DVC cannot find its result"):
        reproduce(done, read_plan(done).nodes["train@a"], None, False, False, lambda _: None, pull=True)


def test_only_a_committed_revision_that_workers_can_fetch_is_trained(done: Toy, worker: Toy) -> None:
    with pytest.raises(ConfigError, match=f"the revision {'0' * 40} not found in {done.root}, where workers fetch it"):
        train_in_clone(worker, Order("train@a", "0" * 40, "", None, False), lambda _: None)
    with pytest.raises(ConfigError, match="a full commit and a stage's name must be given"):
        train_in_clone(worker, Order("train@a", "--upload-pack=x", "", None, False), lambda _: None)
    head = committed_revision(done)
    with pytest.raises(CloneError, match=r"DVC's remote here: .*storage; it must be the asking clone's"):
        train_in_clone(worker, Order("train@a", head, "", None, False), lambda _: None)  # its data are nowhere
    done.params(lambda values: values["components"]["a"].update(width=8))
    with pytest.raises(ConfigError, match=r"workers train a committed revision, but in .* tracked files differ from"):
        committed_revision(done)
