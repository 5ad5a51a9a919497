"""Publishing replaces a folder in one step; verification names every missing, unexpected or altered file."""

from pathlib import Path

import pytest

from cclm_core.runtime.artifacts import folder_digest, publishing, verify, write_json
from cclm_core.runtime.errors import ArtifactError, IntegrityError


def publish(target: Path, text: str) -> None:
    with publishing(target, "corpus") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "text.txt").write_text(text)


def test_publishing_replaces_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "out" / "corpus"
    publish(target, "old")
    old = verify(target, "corpus")
    publish(target, "new")
    assert (target / "deep" / "text.txt").read_text() == "new"
    assert verify(target, "corpus") != old
    publish(target, "old")
    assert folder_digest(target) == old
    assert {path.name for path in target.parent.iterdir()} <= {"corpus", ".corpus.lock"}


def test_a_failure_keeps_the_old_folder_and_leaves_no_temporary_files(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    publish(target, "old")
    with pytest.raises(RuntimeError), publishing(target, "corpus") as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert (target / "deep" / "text.txt").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"corpus", ".corpus.lock"}


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    (tmp_path / ".corpus.writing").mkdir()
    (tmp_path / ".corpus.writing" / "half").write_text("half")
    publish(target, "new")
    assert not (target / "half").exists()
    verify(target, "corpus")


def test_only_one_process_can_write_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    with publishing(target, "corpus"), pytest.raises(ArtifactError, match="being written by another process"):
        publish(target, "other")


def test_verify_names_the_damaged_file(tmp_path: Path) -> None:
    target = tmp_path / "corpus"
    publish(target, "text")
    (target / "deep" / "text.txt").write_text("Text")
    with pytest.raises(IntegrityError, match=r"deep/text.txt is altered"):
        verify(target, "corpus")
    (target / "deep" / "text.txt").unlink()
    with pytest.raises(IntegrityError, match=r"deep/text.txt is missing"):
        verify(target, "corpus")
    (target / "deep" / "text.txt").write_text("text")
    (target / "extra").write_text("")
    with pytest.raises(IntegrityError, match="extra is unexpected"):
        verify(target, "corpus")


def test_verify_refuses_another_kind_a_missing_folder_and_a_missing_manifest(tmp_path: Path) -> None:
    publish(tmp_path / "corpus", "text")
    with pytest.raises(ArtifactError, match="must contain a published component, got corpus"):
        verify(tmp_path / "corpus", "component")
    with pytest.raises(ArtifactError, match=r"corpus not found: .*nowhere does not exist\. Run the stage"):
        verify(tmp_path / "nowhere", "corpus")
    (tmp_path / "bare").mkdir()
    with pytest.raises(ArtifactError, match=r"manifest\.json not found in .*bare"):
        verify(tmp_path / "bare", "corpus")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="must be a folder, but it is a file"):
        publish(tmp_path / "file", "text")


def test_json_is_canonical(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, None], "a": "é"})
    assert (tmp_path / "a.json").read_bytes() == '{"a":"é","b":[1,null]}\n'.encode()
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", float("nan"))
