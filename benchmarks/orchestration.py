"""What does orchestration cost? `cclm run` against the same stages as bare commands, on the default pipeline's graph.

    python benchmarks/orchestration.py [--repeats 3] [--seconds 0.2] [--json]

In a temporary folder stands a project with the stages of this repository's dvc.yaml: the same outputs, the same
dependencies (the library's code among them), the same parameters, its own git history and DVC remote. A stage sleeps
for `--seconds` and publishes a small file. Trainings take turns, as the bare commands do. Measured are wall seconds,
each the median of the repeats, the flow and the bare commands from nothing each time:

- the flow: `cclm run` with Prefect's temporary server, tracked in MLflow on SQLite, outputs pushed to the DVC remote;
- the bare commands: the stages' own commands, one after the other, in the graph's order;
- `cclm run` and `cclm status` when nothing changed.

`ratio` is the value by its bar: below 1 it is kept. `processor` rows are what all processes together used. Not in it:
the check of params.yaml before a run, which imports torch, and the gate, for the toy stages make no models.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rows import Row, show

from flows import environment
from flows.graph.node import Node
from flows.graph.plan import read_plan
from flows.project import Project

REPOSITORY = Path(__file__).resolve().parents[1]
FLOW_BAR_SECONDS, NO_OP_BAR_SECONDS, STATUS_BAR_SECONDS = 30.0, 20.0, 2.0
OURS = ("CCLM_", "DVC_", "MLFLOW_", "PREFECT_")  # settings that must not reach what is measured
MODULE = "toy_stage"
STAGE = """
import sys, time
from pathlib import Path
from cclm_core.runtime.artifacts import publishing, write_json
name, seconds, out = sys.argv[2:]
time.sleep(float(seconds))
with publishing(Path(out), "toy") as folder:
    write_json(folder / "content.json", {"name": name})
"""


def make_project(folder: Path, nodes: dict[str, Node], seconds: float) -> None:
    """A project whose stages read and write what those of this repository do."""
    folder.mkdir()
    made = {out for node in nodes.values() for out in node.outs}
    for dep in {dep for node in nodes.values() for dep in node.deps} - made:
        (folder / dep).parent.mkdir(parents=True, exist_ok=True)
        source = REPOSITORY / dep
        if source.is_dir():
            shutil.copytree(source, folder / dep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / dep)
    stages = {plain(node.name): stage(node, seconds) for node in nodes.values()}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    shutil.copy(REPOSITORY / "params.yaml", folder)
    (folder / f"{MODULE}.py").write_text(STAGE)
    ignored = ["/.cclm/", "__pycache__/", "/mlflow.db", "/mlruns/", *(f"/{out}" for out in sorted(made))]
    (folder / ".gitignore").write_text("\n".join([*ignored, ""]))
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    shutil.copy(REPOSITORY / ".dvc/config", folder / ".dvc/config")
    run(folder, "git", "add", ".")
    run(folder, "git", "-c", "user.name=toy", "-c", "user.email=toy@example.invalid", "commit", "-qm", "toy")


def stage(node: Node, seconds: float) -> dict[str, Any]:
    """A stage of dvc.yaml."""
    words = ["python", "-m", "flows.stage", "--module", MODULE, "stage", plain(node.name), f"{seconds:g}", *node.outs]
    return {
        "cmd": " ".join(words),
        "deps": list(node.deps),
        "params": sorted(node.params),
        "outs": list(node.outs),
        "meta": node.meta,
    }


def plain(name: str) -> str:
    """DVC keeps the @ for stages that it makes from a list."""
    return name.replace("@", "-")


def run(folder: Path, *command: str) -> None:
    """Runs a command in the project; its output is shown if it fails."""
    ours = {"PYTHONPATH": str(REPOSITORY), "CCLM_DEVICE_SLOTS": "1"}
    env = environment.for_children(ours, without=[name for name in os.environ if name.startswith(OURS)])
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def cclm(folder: Path, word: str) -> None:
    """Runs `cclm`."""
    run(folder, sys.executable, "-m", "flows.cli", word)


def bare(folder: Path, nodes: dict[str, Node], seconds: float) -> None:
    """Runs the stages' own commands in order."""
    for node in nodes.values():
        run(folder, sys.executable, "-m", MODULE, "stage", plain(node.name), f"{seconds:g}", *node.outs)


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and processor seconds of what `work` runs."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended - started, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def repetition(folder: Path, template: Path, nodes: dict[str, Node], seconds: float) -> dict[str, tuple[float, float]]:
    """Everything once, the flow and the bare commands each in a new copy of the project."""
    alone = folder.with_suffix(".bare")
    shutil.copytree(template, folder)
    shutil.copytree(template, alone)
    return {
        "bare commands": timed(lambda: bare(alone, nodes, seconds)),
        "flow": timed(lambda: cclm(folder, "run")),
        "no-op": timed(lambda: cclm(folder, "run")),
        "status": timed(lambda: cclm(folder, "status")),
    }


def measure(repeats: int, seconds: float) -> list[Row]:
    """All rows."""
    nodes = read_plan(Project(REPOSITORY), changes=False).nodes
    with tempfile.TemporaryDirectory(prefix="cclm-orchestration-") as work:
        template = Path(work) / "template"
        make_project(template, nodes, seconds)
        found = [repetition(Path(work) / f"{number}", template, nodes, seconds) for number in range(repeats)]
    wall, processor = (
        {name: statistics.median(one[name][kind] for one in found) for name in found[0]} for kind in (0, 1)
    )
    extra = statistics.median(one["flow"][0] - one["bare commands"][0] for one in found)
    what = f"{len(nodes)} stages of {seconds:g} s"
    return [
        Row("bare commands", wall["bare commands"], "s", what),
        Row("flow", wall["flow"], "s", what),
        barred("flow - bare commands", extra, FLOW_BAR_SECONDS),
        barred("no-op cclm run", wall["no-op"], NO_OP_BAR_SECONDS),
        barred("cclm status", wall["status"], STATUS_BAR_SECONDS),
        *(Row(f"{name}, processor", value, "s") for name, value in processor.items()),
    ]


def barred(name: str, value: float, bar: float) -> Row:
    """A row with its bar."""
    return Row(name, value, "s", f"at most {bar:g} s", value / bar)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    rows = measure(given.repeats, given.seconds)
    show(f"orchestration; load before and after {load:.1f}, {os.getloadavg()[0]:.1f}", rows)


if __name__ == "__main__":
    main()
