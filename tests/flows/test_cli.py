"""The command `cclm`: exit codes, one readable message per user error, plain and JSON output."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import Toy


def cclm(project: Toy, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "flows.cli", *arguments, check=check, **environment)


def test_help_lists_the_commands(project: Toy) -> None:
    output = cclm(project, "--help").stdout
    assert all(name in output for name in ("run", "status", "promote", "ui", "stage"))


def test_status_shows_stale_stages_and_reasons(done: Toy) -> None:
    assert cclm(done, "status").stdout == "All 5 stages are up to date.\n"
    done.params(lambda values: values["components"]["a"].update(width=4))
    output = " ".join(cclm(done, "status", COLUMNS="160").stdout.split())
    assert "components.a modified" in output and "3 of 5 stages are stale" in output
    rows = {row["stage"]: row for row in json.loads(cclm(done, "status", "--json").stdout)["stages"]}
    assert rows["train@a"]["stale"] and rows["train@a"]["why"] == ["params.yaml: components.a modified"]
    assert not rows["train@b"]["stale"]


def test_a_run_with_nothing_to_do_prints_the_comparison_and_does_not_start_prefect(done: Toy) -> None:
    process = cclm(done, "run")
    assert "Nothing to run: all 5 stages are up to date." in process.stdout
    assert "nested.bits" in process.stdout and "Prefect" not in process.stderr
    summary = json.loads(cclm(done, "run", "--json").stdout)
    assert summary["comparison"] == {"both": {"f1": 0.5, "nested.bits": 0.5}}
    assert {row["outcome"] for row in summary["stages"]} == {"unchanged"}
    assert not (done.root / ".cclm/prefect").exists()


def test_a_failed_run_shows_the_error_of_the_stage_and_its_log(done: Toy, prefect_server: str) -> None:
    done.params(lambda values: values["components"]["a"].update(width=4, fail=2))
    failed = cclm(done, "run", "--target", "train", check=False, PREFECT_API_URL=prefect_server)
    assert failed.returncode == 1
    assert "train@a failed with exit code 2:\nerror: the toy component a" in failed.stderr
    assert "whole log: .cclm/logs/train@a.log" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--target", "tarin@a"], "error: tarin@a is not a stage of dvc.yaml; did you mean 'train@a'?"),
        (["run", "--force", "nothing"], "error: nothing is not a stage of dvc.yaml"),
        (["promote"], "error: CCLM_TRACKING must not be off for `cclm promote`"),
        (["run", "--no-such-option"], "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_message(done: Toy, arguments: list[str], message: str) -> None:
    process = cclm(done, *arguments, check=False)
    assert process.returncode == 2 and message in process.stderr and "Traceback" not in process.stderr


def test_a_wrong_promotion_section_is_refused_before_anything_runs(done: Toy) -> None:
    done.params(lambda values: values.update(promotion={"metriks": {}}))
    process = cclm(done, "run", check=False)
    assert process.returncode == 2
    assert process.stderr == "error: params.yaml: promotion: metriks is not a known key; did you mean 'metrics'?\n"


def test_an_unknown_section_of_params_is_refused_before_anything_runs(done: Toy) -> None:
    path = done.root / "dvc.yaml"  # with a stage of the library, the library checks all of params.yaml
    path.write_text(path.read_text() + "  base: {cmd: python -m flows.stage stage base --params params.yaml}\n")
    done.params(lambda values: (values.pop("records"), values.pop("components"), values.pop("compositions")))
    process = cclm(done, "run", check=False)
    assert process.returncode == 2
    assert process.stderr.startswith("error: params.yaml: quality is not a known section;")


def test_all_of_params_is_checked_before_a_stage_of_the_library_runs(project: Toy) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(Path(__file__).parents[2] / name, project.root)
    project.params(lambda values: values["components"]["entities"]["training"].update(steps=-5))
    process = cclm(project, "run", check=False)
    assert process.returncode == 2 and "Prefect" not in process.stderr
    assert process.stderr.startswith("error: params.yaml: components.entities: training.steps")


def test_the_module_option_needs_a_module(project: Toy) -> None:
    process = project.run(sys.executable, "-m", "flows.stage", "--module", check=False)
    assert process.returncode == 2 and process.stderr.startswith("error: --module needs the name of a module")


def test_one_run_at_a_time(done: Toy) -> None:
    from filelock import FileLock

    (done.root / ".cclm/locks").mkdir(exist_ok=True)
    with FileLock(done.root / ".cclm/locks/run.lock"):
        process = cclm(done, "run", check=False)
    assert process.returncode == 2 and "another run" in process.stderr


def test_outside_of_a_project(tmp_path: Path, project: Toy) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "flows.cli", "status"],
        cwd=tmp_path.parents[len(tmp_path.parents) - 2],
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2 and "dvc.yaml" in process.stderr
