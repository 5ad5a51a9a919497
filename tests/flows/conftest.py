"""A toy project for tests: a real git and DVC repository with stages that take a fraction of a second."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from flows import environment
from flows.devices.slots import LIMIT
from flows.project import Project

BIN = Path(sys.executable).parent

# The start of a command that reacts to SIGINT. A shell starts background jobs, such as a test run, with SIGINT ignored,
# and their processes inherit that.
INTERRUPTIBLE = ["env", "--default-signal=INT"]

DVC_YAML = """
stages:
  make:
    cmd: python -m flows.stage --module toy_stages stage make --out data/corpus
    params: [records]
    outs: [data/corpus]
  train:
    foreach: ${components}
    do:
      cmd: python -m flows.stage --module toy_stages stage train ${key} --corpus data/corpus
        --checkpoints .cclm/checkpoints/${key} --out models/${key}
      params: ["components.${key}"]
      deps: [data/corpus]
      outs: ["models/${key}"]
      meta: {resource: device}
  compose:
    foreach: ${compositions}
    do:
      cmd: python -m flows.stage --module toy_stages stage compose ${key} --parts models --out compositions/${key}
      params: ["compositions.${key}"]
      deps: [models]
      outs: ["compositions/${key}"]
  evaluate:
    foreach: ${compositions}
    do:
      cmd: >-
        python -m flows.stage --module toy_stages stage evaluate ${key} --composition compositions/${key}
        --corpus data/corpus --out results/${key} --metrics results/${key}.json
      params: [quality]
      deps: ["compositions/${key}", data/corpus]
      outs: ["results/${key}"]
      metrics: ["results/${key}.json"]
"""

PARAMS: dict[str, Any] = {
    "records": 3,
    "quality": 0.5,
    "components": {"a": {"width": 1, "seconds": 0.5}, "b": {"width": 2, "seconds": 0.5}},
    "compositions": {"both": {"parts": ["a", "b"], "untrained": False}},
}

# Python's arguments to train component a.
TRAIN = ["-m", "flows.stage", "--module", "toy_stages"]
TRAIN += ["stage", "train", "a", "--corpus", "data/corpus", "--out", "models/a"]

IGNORED = (".cclm/", "/data/", "/models/", "/compositions/", "/results/", "/mlflow.db", "/mlruns/", "__pycache__/")


@dataclass(frozen=True)
class Toy(Project):
    """A toy project, with methods that run commands in it."""

    environment: dict[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        own_prefixes = ("MLFLOW_", "CCLM_", "PREFECT_", "DVC_", "COLUMNS")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(own_prefixes)}
        settings = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "CCLM_TRACKING": "off",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root / ".cclm/dvc"),
        }
        self.environment.update(inherited | settings)

    def params(self, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        path = self.root / "params.yaml"
        values = yaml.safe_load(path.read_text())
        change(values)
        path.write_text(yaml.safe_dump(values))

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment | environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def dvc(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("dvc", *arguments, check=check, **environment)

    def digests(self) -> dict[str, str]:
        lock = yaml.safe_load((self.root / "dvc.lock").read_text())
        return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}

    def copy(self, target: Path) -> "Toy":
        shutil.copytree(self.root, target)
        return Toy(target)


Drive = Callable[..., dict[str, Any]]


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The path `NAME/project` after `make(path)`, which one of the parallel test processes calls for all of them.

    No test may change what is there.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of the whole run
    path, complete = folder / name / "project", folder / name / "complete"
    with FileLock(folder / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(path.parent, ignore_errors=True)
            path.parent.mkdir()
            make(path)
            complete.touch()
    return path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "toy", _make_template)


def _make_template(root: Path) -> None:
    root.mkdir()
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (root / ".gitignore").write_text(
        ".cclm/\n/data/\n/models/\n/compositions/\n/results/\n/tasks/\n/mlflow.db\n/mlruns/\n__pycache__/\n"
    )
    shutil.copy(Path(__file__).with_name("toy_stages.py"), root)
    project = Toy(root)
    project.run("git", "init", "-q")
    project.dvc("init", "-q")
    shutil.copy(Path(__file__).parents[2] / ".dvcignore", root)
    project.run("git", "add", ".")
    project.run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "toy")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real composition of minimal size."""
    from cclm_core.composition import Component, ComponentCard, save
    from cclm_core.composition.composed import ComposedModel
    from cclm_core.encoders import EmbeddingConfig, HourglassConfig
    from cclm_core.encoders.embedder import Embedder, EmbedderConfig
    from cclm_core.text.vocabulary import Preprocessor

    encoder = HourglassConfig(core_width=16, num_layers=1, num_heads=1, width=8)
    shape = EmbedderConfig(embedding=EmbeddingConfig(width=8, ngram_buckets=16), encoder=encoder)
    base = Embedder(Preprocessor().fit(["Give me excess of it"]), shape)
    card = ComponentCard(
        name="a",
        objective="entities",
        base_width=base.width,
        base_digest=base.digest,
        preprocessor_digest=base.preprocessor.digest,
        encoder=encoder,
    )
    folder = tmp_path_factory.mktemp("model") / "model"
    folder.mkdir()
    save(ComposedModel(base, [Component(card)], "both"), folder)
    return folder


@pytest.fixture(scope="session")
def task_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model of a task, with n-grams, that was hardly trained."""
    from cclm_core.finetuning import fine_tune, save_task
    from tests.finetuning.tasks import config, data, embedder

    settings = config(ngrams={}, training={"steps": 1})
    return made_once(
        tmp_path_factory,
        "task_model",
        lambda folder: save_task(fine_tune("intent", data("classify"), embedder(), settings), folder),
    )


@pytest.fixture(scope="session")
def task_champion(template: Path, task_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the task `intent`: version 2, accuracy 0.7, is champion; version 1, accuracy 0.5, is previous."""
    from tests.flows.toy_tasks import with_champion

    return made_once(
        tmp_path_factory,
        "task_champion",
        lambda root: with_champion(Toy(template).copy(root).root, task_model),
    )


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Toy:
    """A toy project in which nothing has run."""
    return Toy(template).copy(tmp_path / "project")


@pytest.fixture(scope="session")
def reproduced(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "reproduced", lambda root: Toy(template).copy(root).dvc("repro"))


@pytest.fixture(autouse=True)
def no_settings_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the terminal's width, and the Git and DVC settings that tests of the shelf set in this process."""
    for name in (
        "COLUMNS",
        "DVC_GLOBAL_CONFIG_DIR",
        "DVC_SYSTEM_CONFIG_DIR",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def done(reproduced: Path, tmp_path: Path) -> Toy:
    """A toy project that `dvc repro` has brought up to date."""
    return Toy(reproduced).copy(tmp_path / "done")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """The address of a Prefect server, shared by all tests because it takes seconds to start."""
    os.environ.update(
        {name: environment.DEFAULTS[name] for name in ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED")}
    )
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        with get_client(sync_client=True) as client:  # so high that only the locks of the clones count
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=16))
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def drive(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Drive:  # noqa: ARG001
    """A function that runs the flow `pretrain` on a project in this process."""
    from flows.run.pipeline import PipelineError, pretrain

    def run(
        project: Toy, targets: list[str] | None = None, force: list[str] | None = None, **environment: str
    ) -> dict[str, Any]:
        monkeypatch.chdir(project.root)
        for name in list(os.environ):
            if name.startswith(("CCLM_", "MLFLOW_", "DVC_")):
                monkeypatch.delenv(name)
        for name, value in (project.environment | environment).items():
            if not name.startswith("PREFECT_"):
                monkeypatch.setenv(name, value)
        try:
            return dict(pretrain(targets or [], force or []))
        except PipelineError as error:
            return error.summary

    return run
