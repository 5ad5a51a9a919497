"""Publishing replaces a folder in one step; verification names every missing, unexpected or altered file."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cclm_core.runtime import artifacts
from cclm_core.runtime.artifacts import MANIFEST, folder_digest, publishing, verify, write_json
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


KILLED = """
import os, sys
from pathlib import Path
from cclm_core.runtime import artifacts

if sys.argv[2] == "without exchange":
    artifacts._exchange = lambda one, other: False
calls = 0
rename = Path.rename

def stop(path, target):
    global calls
    rename(path, target)
    calls += 1
    if calls == int(sys.argv[3]):
        os._exit(9)

Path.rename = stop
with artifacts.publishing(sys.argv[1], "corpus") as folder:
    (folder / "text.txt").write_text("new")
"""


@pytest.mark.parametrize("way", ["with exchange", "without exchange"])
@pytest.mark.parametrize("renames", [1, 2])
def test_a_writer_killed_after_any_rename_loses_nothing(tmp_path: Path, way: str, renames: int) -> None:
    target = tmp_path / "corpus"
    with publishing(target, "corpus") as folder:
        (folder / "text.txt").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, target, way, str(renames)], check=False)
    if way == "with exchange":
        assert (target / "text.txt").read_text() == "new"
    with pytest.raises(RuntimeError), publishing(target, "corpus"):
        raise RuntimeError  # the next writer, which fails
    verify(target, "corpus")
    assert (target / "text.txt").read_text() in ("old", "new")
    assert {path.name for path in tmp_path.iterdir()} <= {"corpus", ".corpus.lock"}


def test_without_exchange_a_failed_rename_restores_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "corpus"
    publish(target, "old")
    monkeypatch.setattr(artifacts, "_exchange", lambda *_: False)
    rename = Path.rename

    def fail(path: Path, to: Path) -> Path:
        if path.name == ".corpus.writing":
            raise OSError(28, "No space left on device")
        return rename(path, to)

    with monkeypatch.context() as patch, pytest.raises(ArtifactError, match="cannot be written: No space left"):
        patch.setattr(Path, "rename", fail)
        publish(target, "new")
    assert (target / "deep" / "text.txt").read_text() == "old"
    publish(target, "new")
    assert (target / "deep" / "text.txt").read_text() == "new"


SHAPES = ["[]", '"x"', "null", "3", '{"kind":"corpus"}', '{"kind":"corpus","files":[]}', "[" * 200_000, "{"]


@pytest.mark.parametrize("content", SHAPES, ids=range(len(SHAPES)))
def test_a_manifest_of_another_shape_is_refused(tmp_path: Path, content: str) -> None:
    publish(tmp_path / "corpus", "text")
    (tmp_path / "corpus" / MANIFEST).write_text(content)
    with pytest.raises(IntegrityError, match=r"manifest\.json .*Delete .*dvc checkout"):
        verify(tmp_path / "corpus", "corpus")


def _inner_manifest(folder: Path) -> None:
    (folder / "deep" / MANIFEST).write_text("strange")


def _linked_file(folder: Path) -> None:
    (folder / "deep" / "text.txt").rename(folder.parent / "elsewhere.txt")
    (folder / "deep" / "text.txt").symlink_to(folder.parent / "elsewhere.txt")


def _linked_folder(folder: Path) -> None:
    (folder / "etc").symlink_to("/etc")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize(
    "change, message",
    [
        (_inner_manifest, "deep/manifest.json is unexpected"),
        (_linked_file, "text.txt is a link"),
        (_linked_folder, "etc is a link"),
        (_pipe, "pipe is neither a file nor a folder"),
    ],
)
def test_links_special_files_and_manifests_below_are_found(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    publish(tmp_path / "corpus", "text")
    change(tmp_path / "corpus")
    with pytest.raises(IntegrityError, match=message):
        verify(tmp_path / "corpus", "corpus")


def test_a_manifest_below_belongs_to_what_is_published(tmp_path: Path) -> None:
    with publishing(tmp_path / "corpus", "corpus") as folder:
        publish(folder / "inner", "text")
    verify(tmp_path / "corpus", "corpus")
    verify(tmp_path / "corpus" / "inner", "corpus")
    with pytest.raises(ArtifactError, match="etc is a link"), publishing(tmp_path / "linked", "corpus") as folder:
        _linked_folder(folder)
    assert not (tmp_path / "linked").exists()


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    publish(tmp_path / "corpus", "a text of some length")
    draw = random.Random(1)
    path = tmp_path / "corpus" / "deep" / "text.txt"
    good = path.read_bytes()
    for _ in range(50):
        bad = bytearray(good)
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(IntegrityError, match=r"text.txt is altered"):
            verify(tmp_path / "corpus", "corpus")


def test_what_cannot_be_written_is_one_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"file/out cannot be written: .*Check permissions"):
        publish(tmp_path / "file" / "out", "text")
    with pytest.raises(ArtifactError, match="cannot be written: File name too long"):
        publish(tmp_path / ("x" * 254), "text")
    with pytest.raises(ArtifactError, match=r"manifest\.json not found"):
        folder_digest(tmp_path)


def test_strings_are_paths_and_any_character_is_fine(tmp_path: Path) -> None:
    for name in ("a%2Fb", "was?nun", "[x] ä#&'", " leading", "line\nbreak"):
        publish(str(tmp_path / name), "text")  # type: ignore[arg-type]
        assert verify(str(tmp_path / name), "corpus") == folder_digest(str(tmp_path / name))


def test_json_is_canonical(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, None], "a": "é"})
    assert (tmp_path / "a.json").read_bytes() == '{"a":"é","b":[1,null]}\n'.encode()
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", float("nan"))
