"""Compares `cclm run` with the bare commands of the same stages.

    python benchmarks/orchestration.py [--repeats 3] [--seconds 0.2] [--json]

Creates a project in a temporary folder with the stage graph of this repository: the same outputs, dependencies
(including the library's code) and parameters, with its own Git history and DVC remote. A stage sleeps for `--seconds`
and publishes a small file. Trainings run one at a time. The figures are wall seconds, medians of the repeats:

- `bare commands`: the stages' own commands in the order of the graph, in a new project.
- `flow`: `cclm run` in a new project, with Prefect's temporary server, MLflow on SQLite, and a push to the DVC remote.
  The peer is the bare commands.
- `no-op cclm run` and `cclm status`: nothing changed since the last run.

A limit is kept if its ratio is at most 1. Rows `…, processor` have the processor seconds of all processes. The check of
params.yaml before a run, which imports torch, and the gate are not included, because the stages create no models.
"""

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
from rows import Row, options, show

from cclm_core.runtime.reporting import format_number
from flows import environment
from flows.graph.node import Node
from flows.graph.plan import read_plan
from flows.project import Project

REPOSITORY = Path(__file__).resolve().parents[1]
FLOW_LIMIT, NO_OP_LIMIT, STATUS_LIMIT = 30.0, 20.0, 2.0  # seconds
SETTINGS = ("CCLM_", "DVC_", "MLFLOW_", "PREFECT_")  # prefixes of variables to unset
MODULE = "toy_stage"
STAGE = """
import sys, time
from pathlib import Path
from cclm_core.runtime.artifacts import publishing, write_json
name, seconds, *outs = sys.argv[2:]
time.sleep(float(seconds))
for out in map(Path, outs):
    if out.suffix:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(name)
    else:
        with publishing(out, "toy") as folder:
            write_json(folder / "content.json", {"name": name})
"""


def make_project(folder: Path, nodes: dict[str, Node], seconds: float) -> None:
    """Creates a project whose stages have the dependencies and outputs of this repository's stages."""
    folder.mkdir()
    outputs = {out for node in nodes.values() for out in node.outs}
    for dep in {dep for node in nodes.values() for dep in node.deps} - outputs:
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
    ignored = ["/.cclm/", "__pycache__/", "/mlflow.db", "/mlruns/", *(f"/{out}" for out in sorted(outputs))]
    (folder / ".gitignore").write_text("\n".join([*ignored, ""]))
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    shutil.copy(REPOSITORY / ".dvc/config", folder / ".dvc/config")
    run(folder, "git", "add", ".")
    run(folder, "git", "-c", "user.name=toy", "-c", "user.email=toy@example.invalid", "commit", "-qm", "toy")


def stage(node: Node, seconds: float) -> dict[str, Any]:
    """Returns a stage of dvc.yaml that sleeps."""
    command = ["python", "-m", "flows.stage", "--module", MODULE, "stage", plain(node.name), f"{seconds:g}", *node.outs]
    return {
        "cmd": " ".join(command),
        "deps": list(node.deps),
        "params": sorted(node.params),
        "outs": list(node.outs),
        "meta": node.meta,
    }


def plain(name: str) -> str:
    """Returns a stage name without @, which DVC reserves for `foreach` stages."""
    return name.replace("@", "-")


def run(folder: Path, *command: str) -> None:
    """Runs a command in the project; exits with its output if it fails."""
    variables = {"PYTHONPATH": str(REPOSITORY), "CCLM_DEVICE_SLOTS": "1"}
    env = environment.for_children(variables, without=[name for name in os.environ if name.startswith(SETTINGS)])
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed with code {result.returncode}:\n{result.stdout}{result.stderr}")


def cclm(folder: Path, subcommand: str) -> None:
    """Runs `cclm SUBCOMMAND`."""
    run(folder, sys.executable, "-m", "flows.cli", subcommand)


def bare(folder: Path, nodes: dict[str, Node], seconds: float) -> None:
    """Runs the stages' own commands in order, without orchestration."""
    for node in nodes.values():
        run(folder, sys.executable, "-m", MODULE, "stage", plain(node.name), f"{seconds:g}", *node.outs)


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Returns the wall and processor seconds of the processes that `work` starts."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return end - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def repetition(folder: Path, template: Path, nodes: dict[str, Node], seconds: float) -> dict[str, tuple[float, float]]:
    """Measures everything once; the flow and the bare commands start in new copies of the project."""
    bare_folder = folder.with_suffix(".bare")
    shutil.copytree(template, folder)
    shutil.copytree(template, bare_folder)
    return {
        "bare commands": timed(lambda: bare(bare_folder, nodes, seconds)),
        "flow": timed(lambda: cclm(folder, "run")),
        "no-op": timed(lambda: cclm(folder, "run")),
        "status": timed(lambda: cclm(folder, "status")),
    }


def measure(repeats: int, seconds: float) -> list[Row]:
    """Measures all rows."""
    nodes = read_plan(Project(REPOSITORY), changes=False).nodes
    with tempfile.TemporaryDirectory(prefix="cclm-orchestration-") as work:
        template = Path(work) / "template"
        make_project(template, nodes, seconds)
        runs = [repetition(Path(work) / f"{number}", template, nodes, seconds) for number in range(repeats)]
    wall, processor = (
        {name: statistics.median(run[name][kind] for run in runs) for name in runs[0]} for kind in (0, 1)
    )
    overhead = statistics.median(run["flow"][0] - run["bare commands"][0] for run in runs)
    stages = f"{len(nodes)} stages of {seconds:g} s"
    bare_seconds = wall["bare commands"]
    peer = f"bare commands: {format_number(bare_seconds)} s; {stages}"
    return [
        Row("bare commands", bare_seconds, "s", stages, better="lower"),
        Row("flow", wall["flow"], "s", peer, wall["flow"] / bare_seconds, "lower"),
        limited("flow - bare commands", overhead, FLOW_LIMIT),
        limited("no-op cclm run", wall["no-op"], NO_OP_LIMIT),
        limited("cclm status", wall["status"], STATUS_LIMIT),
        *(Row(f"{name}, processor", value, "s", better="lower") for name, value in processor.items()),
    ]


def limited(name: str, value: float, limit: float) -> Row:
    """Returns a row that compares seconds with a limit."""
    return Row(name, value, "s", f"limit: {limit:g} s", value / limit, "lower")


def main() -> None:
    """Runs the benchmark and prints its rows."""
    parser = options(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="number of repeats (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.2, help="seconds that a stage sleeps (default: 0.2)")
    args = parser.parse_args()
    load_before = os.getloadavg()[0]
    rows = measure(args.repeats, args.seconds)
    title = f"Orchestration (load average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after)"
    show(title, rows, args.json)


if __name__ == "__main__":
    main()
