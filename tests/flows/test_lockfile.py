"""A truncated dvc.lock is restored from its backup; an intact one is left alone."""

from pathlib import Path

import pytest

from flows.graph.lockfile import back_up, restore
from flows.project import Project

INTACT = "schema: '2.0'\nstages:\n  ingest:\n    cmd: python\n"


@pytest.mark.parametrize("damage", ["", "schema: '2", "schema: '2.0'\nstages:\n", INTACT[:-8], "- 1\n", "stages: {}\n"])
def test_a_damaged_lock_file_is_restored(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dvc.lock").write_text(INTACT)
    back_up(Project(tmp_path))
    (tmp_path / "dvc.lock").write_text(damage)
    back_up(Project(tmp_path))
    assert restore(Project(tmp_path))
    assert (tmp_path / "dvc.lock").read_text() == INTACT
    assert "dvc.lock was truncated" in capsys.readouterr().err


def test_a_damaged_lock_file_without_a_backup_is_moved_away(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text("")
    assert restore(Project(tmp_path))
    assert not (tmp_path / "dvc.lock").exists()


def test_an_intact_or_missing_lock_file_is_left_alone(tmp_path: Path) -> None:
    assert not restore(Project(tmp_path))
    (tmp_path / "dvc.lock").write_text(INTACT)
    assert not restore(Project(tmp_path))
    assert (tmp_path / "dvc.lock").read_text() == INTACT
