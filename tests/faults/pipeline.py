"""A toy pipeline for fault trials: its training writes checkpoints and can be paused at a step."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow.tracking import MlflowClient
from prefect.settings import PREFECT_API_URL, temporary_settings

from cclm_core.runtime.artifacts import verify
from flows.doctor.diagnosis import diagnose
from flows.graph.plan import read_plan
from flows.tracking.open_runs import open_runs
from tests.flows.conftest import INTERRUPTIBLE, Toy
from tests.flows.test_stage import wait_for

CCLM = [sys.executable, "-m", "flows.cli"]
TRAIN = ("run", "--target", "train@a")
CHECKPOINT_EVERY, PAUSED_AT = 5, 12
TRAINING = {"width": 5, "seconds": 0.5, "steps": 20, "checkpoint_every": CHECKPOINT_EVERY, "bytes": 300_000}
KINDS = {
    "data/corpus": "corpus",
    "models/a": "component",
    "models/b": "component",
    "compositions/both": "composition",
    "results/both": "evaluation",
}
WORDS = {
    "stage": "flows.stage",
    "trainer": "toy_stages",
    "dvc": "repro",
    "server": "prefect.server.api.server:create_app",
}
SECONDS = 600  # for each wait: a run starts Prefect's server, which takes minutes on a busy machine
INJECTED = Path(__file__).with_name("injected")


class Pipeline(Toy):
    """A project that was run and registered once, with changed settings of component a.

    Attributes:
        expected: output path -> digest after an undisturbed run.
        folder: for logs and other files of the trial.
        kills: number of faults, each of which may lose one checkpoint's interval of training.
        within: start of each command, to run it on a small disk.
        warnings: standard error of the last run.
    """

    def __init__(self, root: Path, expected: dict[str, str]) -> None:
        super().__init__(root)
        self.expected = expected
        self.folder = root.parent
        self.kills = 1
        self.within: list[str] = []
        self.warnings = ""

    def start(self, *words: str, held: bool = True, **environment: str) -> "subprocess.Popen[bytes]":
        """Starts `cclm` in its own process group; with `held`, waits until its training is paused and tracked."""
        if held:
            self.hold()
        log = self.folder / "run.log"
        with log.open("wb") as stream:
            run = subprocess.Popen(
                [*self.within, *INTERRUPTIBLE, *CCLM, *words],
                cwd=self.root,
                env=self.environment | environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        if held:
            self.until(lambda: run.poll() is not None or (self.is_held() and self.is_tracked()))
            assert run.poll() is None, log.read_text()
        return run

    def hold(self) -> None:
        """Makes the training pause two steps after its second checkpoint."""
        (self.root / ".cclm/hold-a").write_text(str(PAUSED_AT))

    def release(self) -> None:
        """Resumes the training."""
        (self.root / ".cclm/hold-a").unlink()

    def is_held(self) -> bool:
        """Whether the training is paused."""
        return self.steps()[-1:] == [PAUSED_AT]

    def is_tracked(self) -> bool:
        """Whether the runs of the pipeline and of the training are open in MLflow."""
        return [run.kind for run in open_runs(self)].count("mlflow") >= 2

    def steps(self) -> list[int]:
        """The steps of all training processes so far."""
        path = self.root / ".cclm/steps-a"
        return [int(line) for line in path.read_text().split()] if path.is_file() else []

    def output(self) -> str:
        """The output of the run so far."""
        return (self.folder / "run.log").read_text()

    def until(self, condition: Callable[[], object]) -> None:
        """Waits until the condition holds."""
        assert wait_for(condition, SECONDS), self.output()

    def process(self, role: str) -> psutil.Process:
        """The process of the `stage` runner, the `trainer`, `dvc`, or Prefect's `server`."""
        (match,) = (
            process
            for process in self.processes()
            if WORDS[role] in process.cmdline()
            and Path(process.cmdline()[0]).name != "sh"
            and not (role == "trainer" and WORDS["stage"] in process.cmdline())  # the runner also names the module
        )
        return match

    def processes(self) -> list[psutil.Process]:
        """All processes in the project's folder, including Prefect's temporary server."""
        matches = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.root) and process.status() != psutil.STATUS_ZOMBIE:
                    matches.append(process)
            except psutil.Error:
                continue
        return matches

    def die_at(
        self, program: str, event: str, ending: str, number: int = 0, written: bool = False, exchange: bool = True
    ) -> dict[str, str]:
        """The environment in which a process is killed at a moment; see `injected/sitecustomize.py`."""
        fault = {"program": program, "event": event, "ending": ending, "number": number, "written": written}
        fault |= {"exchange": exchange}
        paths = f"{INJECTED}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        return {
            "CCLM_TEST_FAULT": json.dumps(fault | {"fired": str(self.folder / "fired")}),
            "PYTHONPATH": paths,
        }

    @property
    def fired(self) -> bool:
        """Whether that process was killed."""
        return (self.folder / "fired").is_file()

    def is_whole(self) -> None:
        """Asserts that no output is damaged: each is old, or new and complete, or missing (DVC removes it first)."""
        for path, kind in KINDS.items():
            if (self.root / path).exists():
                verify(self.root / path, kind)

    def again(self, *words: str, **environment: str) -> dict[str, Any]:
        """Runs the pipeline again, without a repair, and returns its summary."""
        done = self.run(*self.within, *CCLM, *(words or TRAIN), "--json", **environment)
        self.warnings = done.stderr
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    def check(self, whole_pipeline: bool = False) -> None:
        """Asserts that the result equals that of an undisturbed run, and that nothing is left behind."""
        self.is_whole()
        outputs = KINDS if whole_pipeline else ("data/corpus", "models/a", "models/b")
        digests = self.digests()
        assert {path: digests[path] for path in outputs} == {path: self.expected[path] for path in outputs}
        steps = self.steps()
        assert set(steps) == set(range(1, int(TRAINING["steps"]) + 1))
        assert len(steps) - len(set(steps)) <= self.kills * CHECKPOINT_EVERY, "lost more than a checkpoint's interval"
        self.is_closed()
        self.is_healthy(whole_pipeline)

    def is_healthy(self, whole_pipeline: bool) -> None:
        """Asserts that no stage is stale and that the doctor finds nothing, in this process to save imports."""
        with pytest.MonkeyPatch.context() as patch:
            for name in ("DVC_SITE_CACHE_DIR", "MLFLOW_TRACKING_URI"):
                patch.setenv(name, self.environment[name]) if name in self.environment else patch.delenv(name, False)
            patch.delenv("CCLM_TRACKING", raising=False)
            patch.chdir(self.root)
            stale = read_plan(self).stale().keys()
            assert not stale & ({*read_plan(self).nodes} if whole_pipeline else {"make", "train@a", "train@b"})
            with temporary_settings({PREFECT_API_URL: self.environment.get("PREFECT_API_URL")}):
                assert diagnose(self, False, lambda *_: None) == []

    def is_closed(self) -> None:
        """Asserts that no run is RUNNING or noted as open, and that no process is left."""
        uri = self.environment.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.root / 'mlflow.db'}")
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("cclm")
        assert experiment
        runs = client.search_runs([experiment.experiment_id])
        assert {run.info.status for run in runs} <= {"KILLED", "FAILED", "FINISHED"}
        assert open_runs(self) == []
        assert wait_for(lambda: self.processes() == [], SECONDS), self.processes()


def settle(project: Toy) -> None:
    """Runs the whole pipeline and registers its composition, which creates both databases."""
    project.environment.pop("CCLM_TRACKING", None)
    project.run(*CCLM, "run")


def undisturbed(project: Toy) -> dict[str, str]:
    """The output digests of an undisturbed run of the changed pipeline."""
    change(project)
    project.dvc("repro")
    return project.digests()


def change(project: Toy) -> None:
    """Changes component a to a training with checkpoints."""
    project.params(lambda values: values["components"].update(a=dict(TRAINING)))


def copied(settled: Path, folder: Path, model: Path, expected: dict[str, str]) -> Pipeline:
    """A copy of the settled project, changed and not yet run again."""
    shutil.copytree(settled, folder / "project")
    pipeline = Pipeline(folder / "project", expected)
    pipeline.environment.pop("CCLM_TRACKING")
    pipeline.environment["TOY_MODEL"] = str(model)
    change(pipeline)
    return pipeline
