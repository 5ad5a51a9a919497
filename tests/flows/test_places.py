"""Projects that were moved or copied, with any character in their path, read-only, or without Git."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from cclm_core.runtime.errors import ConfigError
from flows import environment
from flows.project import Project
from flows.tracking.client import Tracking, TrackingError, connect
from flows.tracking.mlflow_private import artifact_folders
from tests.flows.conftest import Toy
from tests.flows.test_servers import register

# Characters that mean something in a shell, in a URL, in a glob pattern, in DVC's templates, on Windows.
ODD = ["äß a&b {x} it's [x] a*b $HOME #1", "100% %41 feature%2Fx", "a:b\\c"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def opened(root: Path) -> Tracking:
    """The connection to MLflow of a project that has logged a file."""
    root.mkdir(parents=True, exist_ok=True)
    tracking = connect(Project(root))
    run = tracking.create_run("x", {})
    (root / "f.txt").write_text(root.name)
    tracking.log_files(run, [(root / "f.txt", "")])
    tracking.set_status(run, "FINISHED")
    return tracking


def files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def first_file(tracking: Tracking) -> str:
    """The content of the file that the oldest run has logged."""
    client = MlflowClient(tracking.uri)
    run = client.search_runs([tracking.experiment_id], order_by=["attributes.start_time"])[0]
    return Path(client.download_artifacts(run.info.run_id, "f.txt")).read_text()


def test_a_moved_project_keeps_its_artifacts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = here / "old", here / "new"
    opened(old)
    shutil.move(old, new)
    tracking = opened(new)
    assert not old.exists() and first_file(tracking) == "old"
    assert artifact_folders(new / "mlflow.db") == {new / "mlruns"}
    assert f"its artifacts in MLflow are now those in {new / 'mlruns'}" in capsys.readouterr().err


def test_a_copy_does_not_write_to_the_original(here: Path) -> None:
    old, new = here / "old", here / "new"
    opened(old)
    before = files(old)
    shutil.copytree(old, new)
    assert first_file(opened(new)) == "old"
    assert files(old) == before and first_file(connect(Project(old))) == "old"


def test_a_database_without_its_artifacts_is_refused_with_both_paths(here: Path) -> None:
    old, new = here / "old", here / "new"
    opened(old)
    new.mkdir()
    shutil.copy(old / "mlflow.db", new)
    with pytest.raises(
        TrackingError, match=f"refers to the artifacts in {old / 'mlruns'}, and {new / 'mlruns'} does not"
    ):
        connect(Project(new))


def test_a_folder_that_somebody_chose_is_left_alone(here: Path) -> None:
    root, chosen = here / "project", here / "shared/mlruns"
    root.mkdir()
    chosen.mkdir(parents=True)
    client = MlflowClient(environment.sqlite_uri(root / "mlflow.db"))
    client.create_experiment("cclm", artifact_location=chosen.as_uri())
    opened(root)
    assert artifact_folders(root / "mlflow.db") == {chosen} and files(chosen)


def test_the_registry_works_after_a_move(project: Toy, model: Path, here: Path) -> None:
    register(project, model)
    moved = Toy(here / "moved%20away")
    shutil.move(project.root, moved.root)
    moved.environment.pop("CCLM_TRACKING")
    done = moved.run(sys.executable, "-m", "flows.cli", "doctor", "--json", check=False)
    assert "registered-models" not in done.stdout and "Traceback" not in done.stderr, done.stdout


@pytest.mark.parametrize("name", ODD)
def test_any_character_in_the_path(here: Path, name: str) -> None:
    root = here / name / "project"
    assert first_file(opened(root)) == "project"
    assert {path.name for path in here.iterdir()} == {name} and {path.name for path in (here / name).iterdir()} == {
        "project"
    }
    assert {path.name for path in root.iterdir()} == {".cclm", "mlflow.db", "mlruns", "f.txt"}


def test_a_question_mark_in_the_path_is_refused_before_anything_is_written(project: Toy, here: Path) -> None:
    odd = Toy(here / "what?" / "project")
    odd.root.parent.mkdir()
    shutil.move(project.root, odd.root)
    with pytest.raises(ConfigError, match=r"must not contain a question mark, got .*what\?"):
        connect(Project(odd.root))
    done = odd.run(sys.executable, "-m", "flows.cli", "run", check=False)
    assert done.returncode == 2 and "Rename the folder." in done.stderr
    assert {path.name for path in here.iterdir()} == {"what?"}


def test_without_git_the_message_names_the_remedy(project: Toy) -> None:
    shutil.rmtree(project.root / ".git")
    for command in ("status", "run", "lineage"):
        words = [sys.executable, "-m", "flows.cli", command, *(["a"] if command == "lineage" else [])]
        done = project.run(*words, check=False)
        assert done.returncode == 2 and "Run `git init` there" in done.stderr and "Traceback" not in done.stderr


READ_ONLY = """mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77
cd "$1"; shift; exec "$@"
"""


@pytest.mark.parametrize("visited", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_read_only_project_can_be_inspected(done: Toy, here: Path, visited: bool) -> None:
    if visited:
        done.run(sys.executable, "-m", "flows.cli", "status")
    else:
        shutil.rmtree(done.root / ".cclm", ignore_errors=True)
        shutil.rmtree(done.root / ".dvc/tmp", ignore_errors=True)
    (here / "look.sh").write_text(READ_ONLY)
    repository = str(Path(__file__).parents[2])
    before = files(done.root)

    def look(*words: str) -> subprocess.CompletedProcess[str]:
        """Runs a command while the project's folder is mounted read-only."""
        command = ["unshare", "--mount", "sh", str(here / "look.sh"), str(done.root), sys.executable, "-m", "flows.cli"]
        settings = done.environment | {"PYTHONPATH": repository, "CCLM_TRACKING": "on"}
        settings.pop("DVC_SITE_CACHE_DIR")
        found = subprocess.run([*command, *words], env=settings, capture_output=True, text=True, check=False)
        if found.returncode == 77 or "unshare failed" in found.stderr or "mount" in found.stderr:
            pytest.skip("needs the right to mount a folder")
        assert "Traceback" not in found.stderr, found.stderr
        return found

    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    assert "All 5 stages are up to date." in look("status").stdout
    lineage = look("lineage", "both")
    assert lineage.returncode == 0 and "both" in lineage.stdout
    assert look("doctor").returncode in (0, 1)
    for words in [["run"], ["doctor", "--repair"]] if visited else []:
        refused = look(*words)
        assert refused.returncode == 2 and f"{done.root}, but it is read-only" in refused.stderr
    assert files(done.root) == before


def test_an_unreachable_prefect_server_is_one_line(project: Toy) -> None:
    done = project.run(sys.executable, "-m", "flows.cli", "run", check=False, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: Prefect at http://127.0.0.1:9/api does not answer" in done.stderr.splitlines()[-1]


DAMAGED = [
    '{"kind": "ml',
    "[]",
    "null",
    '{"kind": 1}',
    "[" * 100_000,
    '{"kind": "mlflow", "id": [], "where": "", "process": "", "opened": 1}',
    '{"kind": "mlflow", "id": "a", "where": "", "process": "", "opened": NaN}',
    "\xff",
]


def test_damaged_records_stop_neither_a_run_nor_the_doctor(done: Toy) -> None:
    for folder in ("open", "stages", "reports"):
        (done.root / ".cclm" / folder).mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(DAMAGED):
        for path in (f"open/mlflow-{number}.json", "stages/train@a.json", "reports/train@a.jsonl"):
            (done.root / ".cclm" / path).write_bytes(content.encode("latin-1"))
        if number % 4 == 3:
            assert done.run(sys.executable, "-m", "flows.cli", "status").stdout
    found = done.run(sys.executable, "-m", "flows.cli", "doctor", check=False)
    assert found.stdout.count("open-records: ") == len(DAMAGED) and "Traceback" not in found.stderr
    repaired = done.run(sys.executable, "-m", "flows.cli", "doctor", "--repair", check=False)
    assert repaired.stdout.count("repaired: deleted it") == len(DAMAGED)
    (done.root / ".cclm/open/mlflow-x.json").write_text(DAMAGED[0])
    assert "damaged record of an open run" in done.run(sys.executable, "-m", "flows.cli", "run").stderr
    assert not list((done.root / ".cclm/open").iterdir())
    assert os.environ.get("CCLM_DRIVER") is None
