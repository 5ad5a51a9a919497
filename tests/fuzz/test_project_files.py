"""Damaged files of the pipeline: records, notes of open runs, settings of the stack, dvc.lock. See test_parsers.py."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.cases import Target, run_cases
from tests.fuzz.mutations import BYTES
from tests.fuzz.test_parsers import SEED, SLOW, check

pytest.importorskip("dvc")

ROOT = Path(__file__).parents[2]


def records(folder: Path) -> Target:
    """The record of a stage, and the note of a run that is open."""
    from flows.project import Project
    from flows.tracking.open_runs import abandoned, open_runs, record_opened, running_processes
    from flows.tracking.records import StageRecord, read_record

    project = Project(folder)
    record_opened(project, "mlflow", "r1", "sqlite:///x")
    StageRecord("ingest", ("a", "--checkpoints", "x"), 1.0, "c", False, process="h:1:2").write(project)

    def parse() -> None:
        assert isinstance(open_runs(project), list) and isinstance(abandoned(project, "mlflow"), list)
        record = read_record(project, "ingest")
        assert record is None or isinstance(record.running, bool)
        running_processes(project)

    return Target([*(folder / ".cclm/open").glob("*.json"), *(folder / ".cclm/stages").glob("*.json")], parse)


def stack_settings(folder: Path) -> Target:
    """The settings of the stack."""
    from infra.stack.settings import read_conf

    path = folder / "stack.conf"
    path.write_bytes((ROOT / "infra" / "stack.conf").read_bytes())
    return Target([path], lambda: read_conf(path))


def lock_file(folder: Path) -> Target:
    """dvc.lock of a project with one stage that has run."""
    from flows.graph.lockfile import restore
    from flows.graph.plan import read_plan
    from flows.project import Project

    (folder / "dvc.yaml").write_text("stages:\n  make:\n    cmd: echo 1 > a\n    outs: [a]\n")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    entry = "    - path: a\n      hash: md5\n      md5: b026324c6904b2a9cb4b88d6d61c81d1\n      size: 2\n"
    lock = "schema: '2.0'\nstages:\n  make:\n    cmd: echo 1 > a\n    outs:\n" + entry
    (folder / "dvc.lock").write_text(lock)
    project = Project(folder)

    def parse() -> None:
        restore(project)
        read_plan(project)

    return Target([folder / "dvc.lock"], parse, mutations=BYTES)


PARSERS: dict[str, tuple[Callable[[Path], Target], int]] = {
    "records": (records, 30),
    "stack settings": (stack_settings, 30),
    "lock file": (lock_file, 10),
}


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_files_are_accepted_or_refused(name: str, tmp_path: Path) -> None:
    prepare, count = PARSERS[name]
    check(run_cases(prepare, tmp_path, count, f"{name} {SEED}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_all_damaged_files_are_accepted_or_refused(name: str, tmp_path: Path) -> None:
    prepare, count = PARSERS[name]
    check(run_cases(prepare, tmp_path, SLOW * count, f"{name} slow {SEED}"))
