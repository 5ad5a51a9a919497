"""DVC's remote on S3, on a moto server or any other; docs/production.md has the commands."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cclm_core.runtime.artifacts import folder_digest
from tests.flows.conftest import Toy
from tests.flows.test_remotes import FOLDERS, cclm, commit
from tests.flows.test_stage import wait_for
from tests.infra.test_stack import free_port

SETTING = "CCLM_TEST_S3"
REGION = "us-east-1"

pytestmark = pytest.mark.slow


class Bucket(NamedTuple):
    """A new bucket, and the environment of its clients."""

    name: str
    endpoint: str
    environment: dict[str, str]

    def keys(self) -> list[str]:
        import boto3

        objects = boto3.resource("s3", endpoint_url=self.endpoint, region_name=REGION).Bucket(self.name).objects.all()
        return [item.key for item in objects]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server_or_program = os.environ.get(SETTING)
    if not server_or_program:
        pytest.skip(f"{SETTING} is not set to the address of an S3 server or the path of moto_server")
    pytest.importorskip("dvc_s3", reason="needs the extra s3: pip install 'cclm-core[s3]'")
    if server_or_program.startswith("http"):
        yield server_or_program
        return
    address, log = f"http://127.0.0.1:{(port := free_port())}", tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as stream:
        server = subprocess.Popen([server_or_program, "-p", str(port)], stdout=stream, stderr=subprocess.STDOUT)
    try:
        assert wait_for(lambda: server.poll() is not None or "Running on" in log.read_text(), 120), log.read_text()
        assert server.poll() is None, log.read_text()
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A new bucket, deleted after the test. Credentials come from the environment; moto accepts any."""
    import boto3

    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    settings = {name: os.environ.get(name, value) for name, value in credentials.items()}
    settings["AWS_DEFAULT_REGION"] = REGION
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    new = boto3.resource("s3", endpoint_url=endpoint, region_name=REGION).Bucket(f"cclm-test-{time.time_ns()}")
    new.create()
    try:
        yield Bucket(new.name, endpoint, settings)
    finally:
        new.objects.all().delete()
        new.delete()


def remote(project: Toy, bucket: Bucket, endpoint: str) -> None:
    """The commands of docs/production.md."""
    project.dvc("remote", "modify", "--local", "storage", "url", f"s3://{bucket.name}/outputs")
    project.dvc("remote", "modify", "--local", "storage", "endpointurl", endpoint)


def test_outputs_are_pushed_to_s3_once_and_a_fresh_clone_pulls_them(done: Toy, bucket: Bucket, tmp_path: Path) -> None:
    done.dvc("remote", "add", "-d", "storage", str(tmp_path / "none"))
    remote(done, bucket, f"http://127.0.0.1:{free_port()}")
    done.environment.update(bucket.environment)
    failed = cclm(done, "push", check=False, AWS_MAX_ATTEMPTS="1")
    message = f"not all outputs are in DVC's remote storage (s3://{bucket.name}/outputs)"
    assert failed.returncode == 1 and message in failed.stderr

    remote(done, bucket, bucket.endpoint)
    assert json.loads(cclm(done, "push", "--json").stdout) == {"remote": "storage"}
    keys = bucket.keys()
    # One list of files per output; equal files are stored once.
    assert len([key for key in keys if key.endswith(".dir")]) == len(FOLDERS)
    assert all(key.startswith("outputs/files/md5/") for key in keys)
    assert json.loads(cclm(done, "run", "--json").stdout)["pushed"] is None  # everything is pushed

    commit(done)
    fresh = Toy(tmp_path / "fresh")
    fresh.environment.update(bucket.environment)
    subprocess.run(["git", "clone", "-q", done.root, fresh.root], check=True)
    remote(fresh, bucket, bucket.endpoint)
    fresh.dvc("pull")
    assert [folder_digest(fresh.root / path) for path in FOLDERS] == [folder_digest(done.root / p) for p in FOLDERS]
    assert "up to date" in fresh.dvc("status").stdout


def test_a_clone_restores_the_training_of_another_from_s3(done: Toy, bucket: Bucket, tmp_path: Path) -> None:
    """As a worker without a shared disk and the requesting pipeline do (docs/production.md)."""
    done.dvc("remote", "add", "-d", "storage", f"s3://{bucket.name}/outputs")
    commit(done)
    other = Toy(tmp_path / "other")
    subprocess.run(["git", "clone", "-q", done.root, other.root], check=True)
    for project in (done, other):
        project.environment.update(bucket.environment)
        remote(project, bucket, bucket.endpoint)
        project.params(lambda values: values["components"]["a"].update(width=9))
    done.dvc("push", "make")
    output = other.dvc("repro", "--single-item", "--pull", "--allow-missing", "train@a").stdout
    assert "Running stage 'train@a'" in output
    other.dvc("push", "--run-cache", "train@a")
    output = done.dvc("repro", "--single-item", "--pull", "train@a", CCLM_RESTORE_ONLY="1").stdout
    assert "is cached - skipping run" in output
    assert folder_digest(done.root / "models/a") == folder_digest(other.root / "models/a")


def test_a_shelf_on_s3(model: Path, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    for kind in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{kind}_NAME", "test")
        monkeypatch.setenv(f"GIT_{kind}_EMAIL", "test@example.invalid")
    shelf, words = str(tmp_path / "shelf"), [sys.executable, "-m", "flows.cli", "shelf"]
    subprocess.run([*words, "create", shelf, "--remote", f"s3://{bucket.name}/shelf"], check=True)
    about = ["--license", "Apache-2.0", "--tag", "v1", "--repo", shelf]
    subprocess.run([*words, "publish", model, "both", "composition", *about], check=True)
    cache = ["--cache-dir", str(tmp_path / "cache"), "--repo", shelf, "--json"]
    fetched = subprocess.run([*words, "fetch", "both", "composition", "v1", *cache], check=True, capture_output=True)
    folder = Path(json.loads(fetched.stdout)["folder"])
    assert {path.relative_to(folder) for path in folder.rglob("*")} == {p.relative_to(model) for p in model.rglob("*")}
    assert (folder / "composition.json").read_bytes() == (model / "composition.json").read_bytes()
