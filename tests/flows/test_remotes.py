"""DVC's remote: recorded outputs are pushed after a successful run, failures are reported and repeated."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cclm_core.runtime.artifacts import folder_digest
from cclm_core.runtime.errors import ConfigError
from flows.project import Project
from flows.remote.dvc_remote import default_remote, wants_push
from tests.flows.conftest import Toy

FOLDERS = ("data/corpus", "models/a", "models/b", "compositions/both", "results/both")


def cclm(project: Toy, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "flows.cli", *arguments, check=check, **environment)


def commit(project: Toy) -> None:
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "recorded")


def test_a_failed_push_is_reported_and_repeated_and_a_fresh_clone_pulls_everything(
    done: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CCLM_PUSH", raising=False)
    assert default_remote(done) is None and not wants_push(done)
    failed = cclm(done, "push", check=False)
    assert failed.returncode == 2 and "no DVC remote to push to" in failed.stderr

    storage = tmp_path / "storage"
    storage.write_text("a file is in the way")
    done.dvc("remote", "add", "-d", "storage", str(storage))
    assert default_remote(done) == ("storage", str(storage)) and wants_push(done)
    before = done.digests()
    failed = cclm(done, "run", check=False)  # nothing is stale, but nothing is pushed either
    assert failed.returncode == 1 and f"not all outputs are in DVC's remote storage ({storage})" in failed.stderr
    assert "The next run or `cclm push` tries again." in failed.stderr and done.digests() == before

    storage.unlink()
    assert json.loads(cclm(done, "run", "--json").stdout)["pushed"] == "storage"
    assert not wants_push(done)
    commit(done)
    project = Toy(tmp_path / "fresh")
    subprocess.run(["git", "clone", "-q", done.root, project.root], check=True)
    project.dvc("pull")
    assert [folder_digest(project.root / path) for path in FOLDERS] == [folder_digest(done.root / p) for p in FOLDERS]
    assert "up to date" in project.dvc("status").stdout


@pytest.mark.slow
def test_a_run_pushes_its_outputs_at_the_end(done: Toy, tmp_path: Path, prefect_server: str) -> None:
    storage = tmp_path / "storage"
    done.dvc("remote", "add", "-d", "storage", str(storage))
    done.params(lambda values: values["components"]["a"].update(fail=2, width=4))
    assert cclm(done, "run", check=False, PREFECT_API_URL=prefect_server).returncode == 1
    assert not storage.exists()  # not after a failure
    done.params(lambda values: values["components"]["a"].pop("fail"))
    summary = json.loads(cclm(done, "run", "--json", PREFECT_API_URL=prefect_server).stdout)
    assert summary["pushed"] == "storage" and summary["push_error"] is None
    assert "Everything is up to date" in done.dvc("push").stdout
    assert not wants_push(done)
    with pytest.MonkeyPatch.context() as patch:
        (done.root / ".cclm/pushed.json").unlink()
        assert wants_push(done)
        patch.setenv("CCLM_PUSH", "off")
        assert not wants_push(done)


def test_a_default_remote_without_an_address_is_an_error(done: Toy) -> None:
    done.dvc("config", "core.remote", "nowhere")
    with pytest.raises(ConfigError, match="nowhere"):
        default_remote(done)


def test_the_default_remote_of_this_project_is_a_folder_in_each_clone(tmp_path: Path) -> None:
    """Its address is relative to .dvc, so it is inside the project wherever that is."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text((Path(__file__).parents[2] / ".dvc/config").read_text())
    assert default_remote(Project(tmp_path)) == ("storage", str(tmp_path / ".cclm/remote"))
