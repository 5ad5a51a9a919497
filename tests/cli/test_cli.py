"""The command line of the library: complete help, errors without a traceback, no unneeded import of torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cclm_core.cli.app", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("stage", ["ingest", "labeled", "vocab", "noise", "base", "pretrain", "compose", "evaluate"])
def test_every_stage_has_help(stage: str) -> None:
    process = run("stage", stage, "--help")
    assert process.returncode == 0
    assert "--params" in process.stdout and "--out" in process.stdout


def test_help_shows_brackets() -> None:
    assert "'cclm-core[signing]'" in run("shelf", "publish", "--help").stdout  # rich would read `[signing]` as markup


def test_a_user_error_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    process = run("stage", "vocab", "--params", "params.yaml", "--corpus", "none", "--out", "out", cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr.startswith("error: ") and "params.yaml" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "out").exists()


def test_importing_the_command_line_imports_neither_torch_nor_the_pipeline() -> None:
    code = (
        "import sys, cclm_core, cclm_core.cli.app; print(sorted({'torch','prefect','mlflow','dvc'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_public_names_can_be_imported_from_cclm_core() -> None:
    from cclm_core import ComposedModel, Embedder, Preprocessor

    assert [cls.__name__ for cls in (ComposedModel, Embedder, Preprocessor)] == [
        "ComposedModel",
        "Embedder",
        "Preprocessor",
    ]
