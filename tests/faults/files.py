"""Truncated and altered files, stale locks, and processes killed while they write."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from cclm_core.runtime.artifacts import verify
from flows.graph.dvc_private import is_valid_lock
from tests.faults.pipeline import CCLM, KINDS, SECONDS, TRAIN, Pipeline
from tests.flows.conftest import Toy
from tests.flows.test_stage import wait_for

Trial = Callable[[Pipeline], None]


def die(program: str, event: str, ending: str, **more: int) -> Trial:
    """A process of a run is killed at one of its own system calls."""

    def trial(pipeline: Pipeline) -> None:
        run = pipeline.start(*TRAIN, held=False, **pipeline.die_at(program, event, ending, **more))
        run.wait(SECONDS)
        assert pipeline.fired, pipeline.output()
        pipeline.is_whole()
        pipeline.again()
        pipeline.check()

    return trial


def die_publishing(event: str, ending: str, left: dict[str, str], number: int = 0, exchange: bool = True) -> Trial:
    """A stage is killed while it replaces its output. It runs without DVC, which would remove the old output first.

    Args:
        event: the moment; see `injected/sitecustomize.py`.
        ending: the end of an argument of the event.
        left: folders in `models` after the kill -> `old` or `new`; of `a`, `.a.writing` and `.a.old`, no others exist.
        number: how many other such events come first.
        exchange: whether the system can exchange two folders in one step.
    """
    options = ["--corpus", "data/corpus", "--checkpoints", ".cclm/checkpoints/a", "--out", "models/a"]
    words = [sys.executable, "-m", "toy_stages", "stage", "train", "a", *options]

    def trial(pipeline: Pipeline) -> None:
        models = pipeline.root / "models"
        old = verify(models / "a", "component")
        fault = pipeline.die_at("toy_stages", event, ending, number=number, exchange=exchange)
        report = {"CCLM_REPORT": str(pipeline.folder / "report")}
        killed = pipeline.run(*words, check=False, **fault, **report)
        assert killed.returncode == -9 and pipeline.fired, killed.stderr
        folders = [name for name in ("a", ".a.writing", ".a.old") if (models / name).exists()]
        contents = {name: "old" if verify(models / name, "component") == old else "new" for name in folders}
        assert contents == left
        pipeline.again()
        assert not list(models.glob(".a.[ow]*"))
        pipeline.check()

    return trial


def lock_file_killed(pipeline: Pipeline) -> None:
    """DVC is killed while it writes dvc.lock; the outputs of the stage are restored, not made again."""
    fault = pipeline.die_at("dvc", "open", "dvc.lock", written=True)
    pipeline.start(*TRAIN, held=False, **fault).wait(SECONDS)
    assert pipeline.fired and not is_valid_lock((pipeline.root / "dvc.lock").read_bytes())
    pipeline.is_whole()
    outcomes = {row["stage"]: row["outcome"] for row in pipeline.again()["stages"]}
    assert outcomes["train@a"] in ("restored", "ran")
    pipeline.check()


def lock_file_truncated(pipeline: Pipeline) -> None:
    """dvc.lock is truncated; only changed stages run."""
    path = pipeline.root / "dvc.lock"
    content = path.read_bytes()
    path.write_bytes(next(part for part in prefixes(content) if "train@b" in stages(part) and not is_valid_lock(part)))
    assert pipeline.dvc("status", check=False).returncode != 0  # valid YAML, but not for DVC
    summary = pipeline.again()
    assert {row["stage"]: row["outcome"] for row in summary["stages"]} == {"make": "unchanged", "train@a": "ran"}
    pipeline.check()


def prefixes(content: bytes) -> Iterator[bytes]:
    """All proper prefixes of a file's content, the longest first."""
    return (content[:length] for length in range(len(content) - 1, 0, -1))


def stages(content: bytes) -> dict[str, Any]:
    """The stages in a dvc.lock; empty if it is not valid YAML."""
    try:
        values = yaml.safe_load(content)
    except yaml.YAMLError:
        return {}
    mapping = values.get("stages") if isinstance(values, dict) else None
    return mapping if isinstance(mapping, dict) else {}


def stale_locks(pipeline: Pipeline) -> None:
    """DVC's list of writers names a dead process, and its lock files exist."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    folder = pipeline.root / ".dvc/tmp"
    info = {"pid": dead.pid, "cmd": "dvc repro"}
    out = str(pipeline.root / "models/a")
    (folder / "rwlock").write_text(
        json.dumps({"write": {out: info}, "read": {str(pipeline.root / "data/corpus"): [info]}})
    )
    for name in ("lock", "rwlock.lock"):
        (folder / name).write_text(f"{dead.pid:>10}\n")
    (pipeline.root / ".cclm/locks/run.lock").touch()
    (pipeline.root / "models/.a.lock").touch()
    assert not Path(f"/proc/{dead.pid}").exists()
    pipeline.again()
    assert str(dead.pid) not in (folder / "rwlock").read_text()
    pipeline.check()


def bit_flip(pipeline: Pipeline) -> None:
    """A published component is altered: it is restored before its use."""
    path = pipeline.root / "models/b/content.json"
    flip(path)
    assert damage(pipeline.root / "models/b") == path
    outcomes = {row["stage"]: row["outcome"] for row in pipeline.again("run")["stages"]}
    assert outcomes["train@b"] == "restored" and outcomes["compose@both"] == "ran"
    pipeline.check(whole_pipeline=True)


def silent_bit_flip(pipeline: Pipeline) -> None:
    """The disk alters a published component without a new modification time: every reader refuses the component."""
    pipeline.dvc("status")  # from now on DVC trusts the modification times
    path = pipeline.root / "models/b/content.json"
    times = path.stat()
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert damage(pipeline.root / "models/b") == path
    done = pipeline.run(*CCLM, "run", check=False)
    assert done.returncode == 1 and "models/b/content.json is altered" in done.stderr
    assert "Delete models/b, then run `dvc checkout`" in done.stderr
    shutil.rmtree(pipeline.root / "models/b")
    pipeline.again("run")
    pipeline.check(whole_pipeline=True)


def flip(path: Path) -> None:
    """Flips one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage(folder: Path) -> Path | None:
    """The file that does not match the manifest."""
    from cclm_core.runtime.errors import IntegrityError

    try:
        verify(folder, KINDS[f"{folder.parent.name}/{folder.name}"])
    except IntegrityError as error:
        return Path(str(error).partition(" is altered")[0])
    return None


def push(pipeline: Pipeline) -> None:
    """`dvc push` is killed when half of the objects are in the remote."""
    storage = pipeline.folder / "storage"
    pipeline.dvc("remote", "add", "-d", "storage", str(storage))
    fault = pipeline.die_at("push", "os.rename", "", number=4)
    run = pipeline.start("run", held=False, **fault)
    assert run.wait(SECONDS) == 1 and pipeline.fired, pipeline.output()
    assert "not all outputs are in DVC's remote storage" in pipeline.output()
    assert pipeline.again("run")["pushed"] == "storage"
    pipeline.check(whole_pipeline=True)
    fresh = Toy(pipeline.folder / "fresh")
    pipeline.run("git", "add", "-A")
    pipeline.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "recorded")
    pipeline.run("git", "clone", "-q", str(pipeline.root), str(fresh.root))
    fresh.dvc("pull")
    for path, kind in KINDS.items():
        assert verify(fresh.root / path, kind) == verify(pipeline.root / path, kind)


def two_at_once(pipeline: Pipeline) -> None:
    """A second pipeline on the same clone is refused while the first one runs, without any harm."""
    first = pipeline.start(*TRAIN)
    second = pipeline.run(*CCLM, *TRAIN, check=False)
    assert second.returncode == 2
    assert "another run of the pipeline is in progress" in second.stderr
    bare = pipeline.dvc("repro", "-s", "train@a", check=False)
    assert bare.returncode != 0 and "busy" in bare.stderr + bare.stdout
    assert first.poll() is None and pipeline.is_held()
    pipeline.release()
    assert first.wait(SECONDS) == 0, pipeline.output()
    assert wait_for(lambda: pipeline.processes() == [])
    pipeline.again()
    pipeline.check()


TRIALS: dict[str, Trial] = {
    "SIGKILL while the manifest is written": die("toy_stages", "os.rename", "manifest.json"),
    "SIGKILL before the rename of publishing": die("toy_stages", "os.rename", "models/a"),
    "SIGKILL after the rename of publishing": die("toy_stages", "os.remove", ".a.writing", number=1),
    "SIGKILL before the exchange of publishing": die_publishing(
        "ctypes.dlsym", "renameat2", {"a": "old", ".a.writing": "new"}
    ),
    "SIGKILL after the exchange of publishing": die_publishing(
        "shutil.rmtree", ".a.writing", {"a": "new", ".a.writing": "old"}
    ),
    "SIGKILL between the two renames of publishing": die_publishing(
        "os.rename", "models/a", {".a.writing": "new", ".a.old": "old"}, number=1, exchange=False
    ),
    "SIGKILL after the two renames of publishing": die_publishing(
        "shutil.rmtree", ".a.old", {"a": "new", ".a.old": "old"}, exchange=False
    ),
    "SIGKILL of dvc before it records a component": die("repro", "open", "models/a/weights"),
    "SIGKILL while dvc.lock is written": lock_file_killed,
    "dvc.lock truncated": lock_file_truncated,
    "locks of a dead DVC": stale_locks,
    "a bit of a component flipped": bit_flip,
    "a bit of a component flipped, same modification time": silent_bit_flip,
    "SIGKILL during the push": push,
    "two pipelines at once": two_at_once,
}
