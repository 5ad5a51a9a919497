"""The toy project with tasks: two labeled sets, one task that starts from a composition, and one from scratch."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from cclm_core.runtime.artifacts import publishing, verify, write_json
from flows import environment
from flows.gate import overrides
from flows.gate.promote import Decision, promote_all
from flows.gate.registry import Registry
from flows.graph.evaluations import Evaluation, evaluations
from flows.graph.plan import read_plan
from flows.tracking.client import connect
from tests.flows.conftest import Toy
from tests.flows.test_gate_trials import skip_load_checks
from tests.flows.toy_stages import write_results

STAGES = """
  label:
    foreach: ${labeled}
    do:
      cmd: python -m flows.stage --module toy_stages stage label ${key} --out data/labeled/${key}
      params: ["labeled.${key}"]
      outs: ["data/labeled/${key}"]
  finetune:
    foreach: ${tasks}
    do:
      cmd: >-
        python -m flows.stage --module toy_stages stage finetune ${key} --labeled data/labeled
        --compositions compositions --out tasks/${key}
      params: ["tasks.${key}"]
      deps: [data/labeled, compositions]
      outs: ["tasks/${key}"]
      meta: {resource: device}
  test:
    foreach: ${tasks}
    do:
      cmd: >-
        python -m flows.stage --module toy_stages stage test ${key} --task tasks/${key} --labeled data/labeled
        --out results/tasks/${key} --metrics results/tasks/${key}.json
      params: ["tasks.${key}"]
      deps: ["tasks/${key}", data/labeled]
      outs: ["results/tasks/${key}"]
      metrics: ["results/tasks/${key}.json"]
      meta: {resource: device}
"""
PARAMS: dict[str, Any] = {
    "labeled": {"tickets": {"version": 1}, "mails": {"version": 1}},
    "tasks": {
        "intent": {"data": "tickets", "composition": "both", "quality": 0.7},
        "scratch": {"data": "tickets", "quality": 0.6},
    },
}


def add_tasks(project: Toy) -> None:
    """Adds the stages and the parameters of tasks, and a second composition that no task uses."""
    path = project.root / "dvc.yaml"
    path.write_text(path.read_text() + STAGES.lstrip("\n"))
    project.params(lambda values: values.update(PARAMS))
    project.params(lambda values: values["compositions"].update(solo={"parts": ["a"], "untrained": False}))


class TaskPromoter:
    """A project with the task `intent`, and operations on it.

    Args:
        project: was run.
        model: folder of the real model of a task.
    """

    def __init__(self, project: Toy, model: Path) -> None:
        self.project, self.root, self.model = project, project.root, model

    def measured(self) -> list[Evaluation]:
        plan = read_plan(self.project, changes=False)
        return [entry for entry in evaluations(plan, self.project) if entry.name == "intent"]

    def make(self, number: int, quality: float, noisy: float | None = None, **changes: Any) -> None:
        """Publishes a new model and its results; see `write_results`."""
        with publishing(self.root / "tasks/intent", "task") as folder:
            shutil.copytree(self.model, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
            write_json(folder / "number.json", number)
        self.measure(quality, noisy, **changes)

    def measure(self, quality: float, noisy: float | None = None, **changes: Any) -> None:
        """Publishes new results of the model."""
        digests = {"task": verify(self.root / "tasks/intent", "task")}
        write_results(self.root / "results/tasks/intent", quality, digests, noisy, **changes)

    def promote(self) -> Decision:
        (decision,) = promote_all(self.project, self.measured(), None, lambda _: None)
        return decision

    def aliases(self) -> tuple[str | None, str | None, str | None]:
        """The versions with the aliases `candidate`, `champion` and `previous`."""
        aliases = Registry(connect(self.project)).model("cclm-intent").aliases
        return aliases.get("candidate"), aliases.get("champion"), aliases.get("previous")


def open_tasks(project: Toy, model: Path, monkeypatch: pytest.MonkeyPatch) -> TaskPromoter:
    """Sets the environment of a project for calls in this process."""
    monkeypatch.chdir(project.root)
    for name, value in environment.DEFAULTS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(project.root / ".cclm/dvc"))
    monkeypatch.setenv("PREFECT_HOME", str(project.root / ".cclm/prefect"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    project.params(lambda values: values.update(promotion={}))
    return TaskPromoter(project, model)


def with_champion(root: Path, model: Path) -> None:
    """Registers version 1 of `intent`, accuracy 0.5, and version 2, accuracy 0.7, which becomes champion."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = Toy(root)
        add_tasks(project)
        tasks = open_tasks(project, model, monkeypatch)
        skip_load_checks(monkeypatch)
        tasks.make(1, 0.5)
        first = tasks.promote()
        assert first.result == "candidate" and "cclm promote --accept intent" in first.reason
        assert overrides.accept(project, "intent").result == "champion"
        tasks.make(2, 0.7)
        assert tasks.promote().result == "champion"
