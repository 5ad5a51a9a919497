"""`cclm` as a user meets it: exit codes, one readable message for what they must mend, plain and JSON output."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import Toy


def cclm(project: Toy, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    return project.run(sys.executable, "-m", "flows.cli", *arguments, check=check, **environment)


def test_help_names_the_commands(project: Toy) -> None:
    told = cclm(project, "--help").stdout
    assert all(name in told for name in ("run", "status", "promote", "ui", "stage"))


def test_status_says_what_is_stale_and_why(done: Toy) -> None:
    assert cclm(done, "status").stdout == "All 5 stages are up to date.\n"
    done.params(lambda values: values["components"]["a"].update(width=4))
    told = cclm(done, "status").stdout
    assert "components.a modified" in told and "3 of 5 stages are stale" in told
    rows = {row["stage"]: row for row in json.loads(cclm(done, "status", "--json").stdout)["stages"]}
    assert rows["train@a"]["stale"] and rows["train@a"]["why"] == ["params.yaml: components.a modified"]
    assert not rows["train@b"]["stale"]


def test_run_with_nothing_to_do_compares_and_starts_no_prefect(done: Toy) -> None:
    told = cclm(done, "run")
    assert "Nothing to run: all 5 stages are up to date." in told.stdout
    assert "nested.bits" in told.stdout and "Prefect" not in told.stderr
    summary = json.loads(cclm(done, "run", "--json").stdout)
    assert summary["comparison"] == {"both": {"f1": 0.5, "nested.bits": 0.5}}
    assert {row["outcome"] for row in summary["stages"]} == {"unchanged"}
    assert not (done.root / ".cclm/prefect").exists()


def test_run_runs_shows_and_fails_with_the_stages_own_words(done: Toy, prefect_server: str) -> None:
    done.params(lambda values: values["components"]["a"].update(width=4, fail=2))
    failed = cclm(done, "run", "--target", "train", check=False, PREFECT_API_URL=prefect_server)
    assert failed.returncode == 1
    assert "train@a failed with exit code 2:\nerror: the toy component a failed on purpose" in failed.stderr
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
    told = cclm(done, *arguments, check=False)
    assert told.returncode == 2 and message in told.stderr and "Traceback" not in told.stderr


def test_a_wrong_promotion_section_is_refused_before_anything_runs(done: Toy) -> None:
    done.params(lambda values: values.update(promotion={"metriks": {}}))
    told = cclm(done, "run", check=False)
    assert told.returncode == 2
    assert told.stderr == "error: params.yaml: promotion: metriks is not a known key; did you mean 'metrics'?\n"


def test_an_unknown_section_of_params_is_refused_before_anything_runs(done: Toy) -> None:
    path = done.root / "dvc.yaml"  # a stage of the library: the library then checks all of params.yaml
    path.write_text(path.read_text() + "  base: {cmd: python -m flows.stage stage base --params params.yaml}\n")
    done.params(lambda values: (values.pop("records"), values.pop("components"), values.pop("compositions")))
    told = cclm(done, "run", check=False)
    assert told.returncode == 2
    assert told.stderr.startswith("error: params.yaml: quality is not a known section;")


def test_all_of_params_is_checked_before_a_stage_of_the_library_runs(project: Toy) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(Path(__file__).parents[2] / name, project.root)
    project.params(lambda values: values["components"]["entities"]["training"].update(steps=-5))
    told = cclm(project, "run", check=False)
    assert told.returncode == 2 and "Prefect" not in told.stderr
    assert told.stderr.startswith("error: params.yaml: components.entities: training.steps")


def test_a_module_must_be_named(project: Toy) -> None:
    told = project.run(sys.executable, "-m", "flows.stage", "--module", check=False)
    assert told.returncode == 2 and told.stderr.startswith("error: --module must be followed by the name of a module")


def test_one_run_at_a_time(done: Toy) -> None:
    from filelock import FileLock

    (done.root / ".cclm/locks").mkdir(exist_ok=True)
    with FileLock(done.root / ".cclm/locks/run.lock"):
        told = cclm(done, "run", check=False)
    assert told.returncode == 2 and "another run of the pipeline is in progress" in told.stderr


def test_outside_of_a_project(tmp_path: Path, project: Toy) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "flows.cli", "status"],
        cwd=tmp_path.parents[len(tmp_path.parents) - 2],
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2 and "dvc.yaml not found in" in told.stderr
