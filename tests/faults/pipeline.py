"""A toy pipeline to do harm to: its training takes checkpoints, can be held at a step, and is checked afterwards."""

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
from tests.flows.conftest import Toy
from tests.flows.test_stage import wait_for

CCLM = [sys.executable, "-m", "flows.cli"]
TRAIN = ("run", "--target", "train@a")
CHECKPOINT_EVERY, HELD_AT = 5, 12
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
SECONDS = 240  # for each wait: a run starts Prefect's server, which takes half a minute beside other work
INJECTED = Path(__file__).with_name("injected")


class Pipeline(Toy):
    """A project that has been run and registered once; then the settings of component a were changed."""

    def __init__(self, root: Path, expected: dict[str, str]) -> None:
        super().__init__(root)
        self.expected = expected
        self.folder = root.parent
        self.kills = 1
        self.within: list[str] = []
        self.warned = ""

    def start(self, *words: str, held: bool = True, **environment: str) -> "subprocess.Popen[bytes]":
        """`cclm` with these words, in a process group of its own; once its training is held and both of its runs are
        in MLflow.
        """
        if held:
            self.hold()
        log = self.folder / "run.log"
        with log.open("wb") as stream:
            run = subprocess.Popen(
                [*self.within, *CCLM, *words],
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
        """Lets the training go no further than a step behind its second checkpoint."""
        (self.root / ".cclm/hold-a").write_text(str(HELD_AT))

    def release(self) -> None:
        """Lets the training go on."""
        (self.root / ".cclm/hold-a").unlink()

    def is_held(self) -> bool:
        """Whether the training waits at that step."""
        return self.steps()[-1:] == [HELD_AT]

    def is_tracked(self) -> bool:
        """Whether the runs of the pipeline and of the training are open in MLflow."""
        return [one.kind for one in open_runs(self)].count("mlflow") >= 2

    def steps(self) -> list[int]:
        """The steps that all processes together have done."""
        path = self.root / ".cclm/steps-a"
        return [int(line) for line in path.read_text().split()] if path.is_file() else []

    def told(self) -> str:
        """What the run has printed."""
        return (self.folder / "run.log").read_text()

    def until(self, holds: Callable[[], object], seconds: float = SECONDS) -> None:
        """Waits."""
        assert wait_for(holds, seconds), self.told()

    def the(self, whom: str) -> psutil.Process:
        """The process of this project that is the `stage` runner, the `trainer`, `dvc`, or Prefect's `server`."""
        (found,) = (
            one
            for one in self.at_work()
            if WORDS[whom] in one.cmdline()
            and Path(one.cmdline()[0]).name != "sh"
            and not (whom == "trainer" and WORDS["stage"] in one.cmdline())  # its runner names its module as well
        )
        return found

    def at_work(self) -> list[psutil.Process]:
        """All processes in the project's folder, Prefect's temporary server included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.root) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def die_at(self, program: str, event: str, ending: str, number: int = 0, written: bool = False) -> dict[str, str]:
        """The environment in which a process dies of SIGKILL at that moment, see `injected/sitecustomize.py`."""
        fault = {"program": program, "event": event, "ending": ending, "number": number, "written": written}
        paths = f"{INJECTED}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        return {
            "CCLM_TEST_FAULT": json.dumps(fault | {"fired": str(self.folder / "fired")}),
            "PYTHONPATH": paths,
        }

    @property
    def fired(self) -> bool:
        """Whether that process has died."""
        return (self.folder / "fired").is_file()

    def is_whole(self) -> None:
        """Nothing published is damaged: each output is as it was, or new and whole, or (DVC removes it first) away."""
        for path, kind in KINDS.items():
            if (self.root / path).exists():
                verify(self.root / path, kind)

    def again(self, *words: str, **environment: str) -> dict[str, Any]:
        """The next run, which needs no repair by hand; its summary. What it warns of is in `warned`."""
        done = self.run(*self.within, *CCLM, *(words or TRAIN), "--json", **environment)
        self.warned = done.stderr
        summary: dict[str, Any] = json.loads(done.stdout)
        return summary

    def check(self, whole_pipeline: bool = False) -> None:
        """All is as after a run that nobody disturbed, and nothing is left behind."""
        self.is_whole()
        made = KINDS if whole_pipeline else ("data/corpus", "models/a", "models/b")
        found = self.digests()
        assert {path: found[path] for path in made} == {path: self.expected[path] for path in made}
        steps = self.steps()
        assert set(steps) == set(range(1, int(TRAINING["steps"]) + 1))
        assert len(steps) - len(set(steps)) <= self.kills * CHECKPOINT_EVERY, "lost more than a checkpoint's interval"
        self.is_closed()
        self.is_healthy(whole_pipeline)

    def is_healthy(self, whole_pipeline: bool) -> None:
        """Nothing is stale, and the doctor finds nothing; asked in this process, which has imported it all."""
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
        """No run stays RUNNING, no note says that one is open, no process is left."""
        uri = self.environment.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.root / 'mlflow.db'}")
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("cclm")
        assert experiment
        runs = client.search_runs([experiment.experiment_id])
        assert {run.info.status for run in runs} <= {"KILLED", "FAILED", "FINISHED"}
        assert open_runs(self) == []
        assert wait_for(lambda: self.at_work() == [], 15), self.at_work()


def settle(project: Toy) -> None:
    """Runs the whole pipeline and registers its composition, so that both databases are there."""
    project.environment.pop("CCLM_TRACKING", None)
    project.run(*CCLM, "run")


def undisturbed(project: Toy) -> dict[str, str]:
    """What the changed pipeline makes when nobody disturbs it."""
    change(project)
    project.dvc("repro")
    return project.digests()


def change(project: Toy) -> None:
    """Other settings for component a: a training with checkpoints."""
    project.params(lambda values: values["components"].update(a=dict(TRAINING)))


def copied(settled: Path, folder: Path, model: Path, expected: dict[str, str]) -> Pipeline:
    """A pipeline of one's own, changed and not yet run again."""
    shutil.copytree(settled, folder / "project")
    pipeline = Pipeline(folder / "project", expected)
    pipeline.environment.pop("CCLM_TRACKING")
    pipeline.environment["TOY_MODEL"] = str(model)
    change(pipeline)
    return pipeline
