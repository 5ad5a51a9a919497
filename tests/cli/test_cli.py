"""The command line of the library: help that teaches, errors without a traceback, no torch where none is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cclm_core.cli.app", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("stage", ["ingest", "vocab", "noise", "base", "pretrain", "compose", "evaluate"])
def test_every_stage_explains_itself(stage: str) -> None:
    shown = run("stage", stage, "--help")
    assert shown.returncode == 0
    assert "--params" in shown.stdout and "--out" in shown.stdout


def test_what_a_user_can_mend_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    shown = run("stage", "vocab", "--params", "params.yaml", "--corpus", "none", "--out", "out", cwd=tmp_path)
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: ") and "params.yaml" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert not (tmp_path / "out").exists()


def test_the_library_and_its_command_line_start_without_torch_or_an_orchestrator() -> None:
    code = (
        "import sys, cclm_core, cclm_core.cli.app; print(sorted({'torch','prefect','mlflow','dvc'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_public_names_are_importable_from_the_top() -> None:
    from cclm_core import ComposedModel, Embedder, Preprocessor

    assert [thing.__name__ for thing in (ComposedModel, Embedder, Preprocessor)] == [
        "ComposedModel",
        "Embedder",
        "Preprocessor",
    ]
