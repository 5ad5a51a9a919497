"""A block of the user, in its own file: trained by a worker in another clone, published, fetched, composed, served."""

import copy
import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from cclm_core.composition.store import load, save
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.runtime.artifacts import file_digest, folder_digest, read_json
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.own_code import OwnCode, offering, trusting_code
from flows.graph.plan import read_plan
from flows.remote.clones import Order, train_in_clone
from flows.remote.workers import committed_revision, push_inputs
from flows.run.dvc_repro import reproduce
from flows.servers.guard import bound_socket
from flows.service.config import ServiceConfig
from flows.service.metrics import Metrics
from flows.service.models import Models
from flows.service.sources import FolderSource
from tests.corpora import encode, records
from tests.flows.conftest import Toy
from tests.flows.services import composition
from tests.flows.test_clones import commit
from tests.flows.test_remotes import cclm
from tests.forgotten import forget_own_code

BLOCKS = Path(__file__).parents[1] / "steps/own_blocks.py"
START = "input/start.safetensors"
ENCODER = {"core_width": 16, "num_layers": 1, "num_heads": 1, "width": 16}
PARAMS: dict[str, Any] = {
    "seed": 1,
    "code": ["blocks/own_blocks.py"],
    "base": {"embedder": {"embedding": {"width": 16, "ngram_buckets": 16}, "encoder": ENCODER}},
    "components": {
        "parity": {
            "task": {"objective": "parity.v1"},
            "encoder": {"kind": "table.v1"},
            "training": {"steps": 2, "batch_size": 2, "window": 32, "evaluation_windows": 2},
        }
    },
    "compositions": {"full": {"parts": ["parity"]}},
}
DVC_YAML = """
stages:
  pretrain:
    foreach: ${components}
    do:
      cmd: >-
        python -m flows.stage stage pretrain ${key} --params params.yaml --encoded data/encoded --base models/base
        --checkpoints .cclm/checkpoints/${key} --out models/components/${key}
      params: [seed, "components.${key}"]
      deps: [data/encoded, models/base, blocks]
      outs: ["models/components/${key}"]
      meta: {resource: device}
"""


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A project with a block of its own, whose corpus and base are in DVC's remote."""
    project = Toy(tmp_path / "owner")
    (project.root / "blocks").mkdir(parents=True)
    (project.root / "models").mkdir()
    shutil.copy(BLOCKS, project.root / "blocks")
    (project.root / "input").mkdir()
    start = {"weight": torch.full((16, 16), 0.5), "bias": torch.zeros(16)}
    save_file(start, project.root / START)
    params = copy.deepcopy(PARAMS)
    keys = {"source": START, "sha256": file_digest(project.root / START), "mapping": {"body.layer": ""}}
    params["components"]["parity"]["initialize"] = keys
    (project.root / "params.yaml").write_text(yaml.safe_dump(params))
    (project.root / "dvc.yaml").write_text(DVC_YAML)
    (project.root / ".gitignore").write_text(".cclm/\n__pycache__/\n*.lock\n!dvc.lock\n")
    shutil.copy(Path(__file__).parents[2] / ".dvcignore", project.root)
    corpus = encode(project.root / "data/encoded", records(20))
    save(embedder(corpus), project.root / "models/base")
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    for role in ("AUTHOR", "COMMITTER"):
        project.environment.update({f"GIT_{role}_NAME": "test", f"GIT_{role}_EMAIL": "test@example.invalid"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    project.run("git", "init", "-q")
    project.dvc("init", "-q")
    project.dvc("remote", "add", "-d", "storage", str(tmp_path / "storage"))
    project.dvc("add", "-q", "data/encoded", "models/base", START)
    commit(project, "a block of our own")
    project.dvc("push", "-q", "data/encoded", "models/base")
    return project


def embedder(corpus: EncodedCorpus) -> Embedder:
    return Embedder(corpus.preprocessor, EmbedderConfig.parse(PARAMS["base"]["embedder"], "base"))


def fresh(folder: Path, *arguments: str, code: int = 0) -> str:
    """Runs a command in a fresh process, in a folder without blocks; returns its output."""
    command = [sys.executable, "-m", "flows.cli", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def free_port() -> int:
    """A port that nothing listens on."""
    with bound_socket(0) as listener:
        return int(listener.getsockname()[1])


def embedded(folder: Path, *options: str) -> list[list[float]]:
    """What `cclm serve` answers in a fresh process."""
    port = free_port()
    command = [sys.executable, "-m", "flows.cli", "serve", "./full", "--port", str(port), "--no-token", *options]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/embed", json.dumps({"texts": ["Viola"]}).encode())
    deadline = time.monotonic() + 120
    try:
        while True:
            assert server.poll() is None and time.monotonic() < deadline, server.communicate(timeout=10)[0]
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    rows: list[list[float]] = json.load(answer)["embeddings"]
                    return rows
            except OSError:
                time.sleep(0.2)
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)


@pytest.mark.slow
def test_a_block_is_trained_by_a_worker_published_fetched_composed_and_served_elsewhere(
    owner: Toy, tmp_path: Path
) -> None:
    worker = Toy(tmp_path / "worker")
    subprocess.run(["git", "clone", "-q", owner.root, worker.root], check=True)
    lines: list[str] = []
    node = read_plan(owner).nodes["pretrain@parity"]
    inputs = push_inputs(owner, node, b"")
    train_in_clone(worker, Order(node.name, committed_revision(owner), "", None, False, tuple(inputs)), lines.append)
    assert not (owner.root / "models/components").exists(), "trained in the clone of the worker"
    assert reproduce(owner, node, None, False, False, lines.append, pull=True).outcome == "restored"
    part = owner.root / "models/components/parity"
    assert folder_digest(part) == folder_digest(worker.root / ".cclm/clones/pretrain@parity/models/components/parity")
    assert read_json(part / "metrics.json")["initialized_parameters"] == 16 * 17
    commit(owner, "trained")

    shelf, elsewhere = str(tmp_path / "shelf"), tmp_path / "elsewhere"
    cclm(owner, "shelf", "create", shelf, "--remote", str(tmp_path / "items"))
    for folder, kind in (("models/base", "embedder"), ("models/components/parity", "component")):
        arguments = ["publish", folder, "parity", kind, "--license", "MIT", "--tag", f"{kind}-1", "--repo", shelf]
        cclm(owner, "shelf", *arguments)
    shutil.rmtree(owner.root)
    shutil.rmtree(worker.root)

    (elsewhere / "components").mkdir(parents=True)
    own = {"compositions": {"full": {"parts": ["parity"]}}, "seed": 1}
    (elsewhere / "params.yaml").write_text(yaml.safe_dump(own))
    folders: dict[str, str] = {}
    for kind in ("embedder", "component"):
        answer = fresh(elsewhere, "shelf", "fetch", "parity", kind, f"{kind}-1", "--repo", shelf, "--json")
        folders[kind] = json.loads(answer)["folder"]
    (elsewhere / "components/parity").symlink_to(elsewhere / folders["component"])
    paths = ["--params", "params.yaml", "--base", folders["embedder"], "--components", "components", "--out", "full"]
    refused = fresh(elsewhere, "stage", "compose", "full", *paths, code=2)
    assert "needs the code in" in refused and "--trust-code" in refused and not (elsewhere / "full").exists()
    fresh(elsewhere, "stage", "compose", "full", *paths, "--trust-code")
    refused = fresh(elsewhere, "serve", "./full", "--port", str(free_port()), "--no-token", code=2)
    assert "full version" in refused and "--trust-code" in refused
    with trusting_code():
        expected = load(elsewhere / "full").embed(["Viola"])[0].mean(axis=0)  # type: ignore[union-attr]
    assert embedded(elsewhere, "--trust-code")[0] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_service_refuses_code_that_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with offering([OwnCode.read(BLOCKS)]):
        encoder: Any = EmbedderConfig.parse({"encoder": {"kind": "table.v1"}}, "test").encoder
        model = composition(encoder=encoder)
    save(model, tmp_path / "full")

    def start() -> None:
        """Loads the model as a service does."""
        Models([FolderSource(tmp_path / "full")], ServiceConfig(), Metrics()).close()

    forget_own_code(monkeypatch)
    with pytest.raises(ConfigError, match=r"full version \w+ is not served: .*needs the code in .* --trust-code"):
        start()
    with trusting_code():
        start()
