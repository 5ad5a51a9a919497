"""Private interfaces of DVC, MLflow and Prefect are used only with the versions for which they were checked."""

import sqlite3
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from packaging.specifiers import SpecifierSet

from flows.graph import dvc_private
from flows.graph.dvc_private import DamagedListError, folder_remote, gone_processes, object_path
from flows.recovery import prefect_private
from flows.recovery.prefect_private import local_pid
from flows.tracking import mlflow_private
from flows.tracking.mlflow_private import registered_digests
from tests.flows.conftest import Toy


@pytest.mark.parametrize(
    ("package", "module"), [("dvc", dvc_private), ("mlflow", mlflow_private), ("prefect", prefect_private)]
)
def test_the_installed_version_was_checked(package: str, module: ModuleType) -> None:
    installed = version(package)
    assert installed in SpecifierSet(module.CHECKED), (
        f"{module.__name__} was checked for {package} {module.CHECKED}, but {installed} is installed. Its docstring "
        "lists what it relies on and which tests to run. Then update CHECKED."
    )


def test_the_layout_of_a_folder_remote_matches_dvc(done: Toy, tmp_path: Path) -> None:
    store = tmp_path / "store"
    done.dvc("remote", "add", "-q", "-d", "store", str(store))
    assert folder_remote(done.root) == store
    done.dvc("push", "-q")
    outs = dvc_private.recorded_outputs(done.lock_file.read_bytes())
    assert outs and all(object_path(store, out["md5"]).is_file() for out in outs)
    done.dvc("remote", "modify", "store", "url", "s3://bucket/outputs")
    assert folder_remote(done.root) is None


def test_the_list_of_readers_and_writers(tmp_path: Path) -> None:
    assert gone_processes(tmp_path) == []
    path = tmp_path / dvc_private.RWLOCK
    path.parent.mkdir(parents=True)
    path.write_text('{"write": {"a": {"pid": 4194999, "cmd": "dvc repro"}}, "read": {}}')
    assert gone_processes(tmp_path) == [4194999]
    path.write_text("[]")
    with pytest.raises(DamagedListError, match="rwlock cannot be parsed"):
        gone_processes(tmp_path)


def test_an_unknown_database_layout_gives_none_and_not_an_empty_set(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    sqlite3.connect(path).close()
    assert registered_digests(path, "cclm.digest") is None


@pytest.mark.parametrize(
    ("pid", "server", "expected"),
    [("4711", "http://127.0.0.1:4200/api", 4711), ("4711", "https://prefect.example/api", None), ("else:1", "", None)],
)
def test_the_process_of_a_flow_run(pid: str, server: str, expected: int | None) -> None:
    class Run:
        infrastructure_pid = pid

    assert local_pid(Run(), server) == expected
