"""Publishing: one commit and one tag, or the shelf is as it was."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from cclm_core.cli import app as cli
from cclm_core.composition.store import load_embedder
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.config import canonical_json, digest
from cclm_core.runtime.errors import ArtifactError, CclmError, ConfigError, IntegrityError, ShelfError
from cclm_core.shelf import About, Shelf
from tests.shelf.conftest import ABOUT, NAME, Place, git, saved


@pytest.fixture
def item(old: Embedder, tmp_path: Path) -> Path:
    return saved(old, tmp_path / "item")


def refuse(place: Place, item: Path, error: type[CclmError], why: str, tag: str = "v9", about: About = ABOUT) -> None:
    before = place.state()
    with pytest.raises(error, match=why):
        place.shelf.publish(item, NAME, "embedder", about=about, tag=tag)
    assert place.state() == before


def test_what_is_published_is_listed_with_its_tags(original: Place) -> None:
    rows = original.shelf.list()
    assert [(row.item_type, row.tags, row.licence, row.signed) for row in rows] == [
        ("composition", ("v3",), "CC0-1.0", False),
        ("embedder", ("v1",), "CC0-1.0", False),
        ("embedder", ("v2", "v3"), "CC0-1.0", False),
    ]
    assert [row.digest for row in rows[1:]] == [
        original.shelf.show(NAME, "embedder", tag).digest for tag in ("v1", "v2")
    ]
    assert {row.identifier for row in rows} == {NAME}


def test_the_card_holds_what_the_item_and_the_publisher_say(original: Place, new: Embedder) -> None:
    card = original.shelf.show(NAME, "composition")
    assert card.digests.base == new.digest and card.digests.vocabulary == new.preprocessor.digest
    assert card.configuration["parts"] == ["first", "second"]
    assert (card.scores, card.licence, card.description) == ({"bits": 2.5}, "CC0-1.0", "characters of plays")
    assert "parts/second/component.safetensors" in {file.path for file in card.files}
    assert (original.folder / "items" / NAME / "composition" / "CARD.md").read_text() == card.to_markdown()


def test_git_holds_cards_and_pointers_and_plain_dvc_reads_them(original: Place) -> None:
    assert git(original.folder, "status", "--porcelain") == ""
    tracked = git(original.folder, "ls-files", f"items/{NAME}/embedder").split()
    assert [Path(name).name for name in tracked] == [".gitignore", "CARD.md", "card.json", "item.dvc"]
    weights = next(file for file in original.shelf.show(NAME, "embedder").files if "safetensors" in file.path)
    assert (original.store / "files" / "md5" / weights.md5[:2] / weights.md5[2:]).stat().st_size == weights.size


def test_a_tag_never_moves(place: Place, item: Path) -> None:
    refuse(place, item, ShelfError, "the shelf has the tag 'v1' already", tag="v1")


def test_what_is_no_item_is_refused(place: Place, item: Path, tmp_path: Path) -> None:
    refuse(place, tmp_path / "nowhere", ArtifactError, "not found")
    (item / "link.json").symlink_to("embedder.json")
    refuse(place, item, IntegrityError, r"link.json' must be a regular file")
    (item / "link.json").unlink()
    (item / "model.pkl").write_bytes(b"")
    refuse(place, item, IntegrityError, "never a pickle")
    (item / "model.pkl").unlink()
    refuse(place, item, ConfigError, "licence: String should have at least 1 character", about=About(" "))
    refuse(place, item, ConfigError, "description: Value error, must be one line", about=About("MIT", "two\nlines"))
    refuse(place, item, ConfigError, "must be a plain name of a tag", tag="--force")
    with pytest.raises(ShelfError, match="git clone failed"):
        Shelf(tmp_path / "nowhere").publish(item, NAME, "embedder", about=ABOUT)


def test_a_storage_that_cannot_be_written_leaves_the_shelf_as_it_was(
    place: Place, old: Embedder, tmp_path: Path
) -> None:
    shutil.rmtree(place.store)
    place.store.write_text("a file where the folder should be")
    refuse(place, saved(old, tmp_path / "item"), ShelfError, "dvc push failed: ERROR: .*Not a directory")


def test_changes_in_the_shelf_that_were_not_committed_are_not_lost(place: Place, item: Path) -> None:
    card = place.folder / "items" / NAME / "embedder" / "CARD.md"
    card.write_text("being edited")
    refuse(place, item, ShelfError, "git push failed")
    assert card.read_text() == "being edited"


def test_the_same_item_again_is_the_same_commit_with_one_more_tag(place: Place, new: Embedder, tmp_path: Path) -> None:
    before = git(place.folder, "rev-parse", "HEAD")
    done = place.shelf.publish(saved(new, tmp_path / "item"), NAME, "embedder", about=ABOUT, tag="again")
    assert (done.commit, done.tag) == (before, "again") and git(place.folder, "rev-parse", "again") == before
    assert place.shelf.show(NAME, "embedder", "v2") == done.card


def test_only_an_empty_folder_becomes_a_shelf(item: Path, tmp_path: Path) -> None:
    before = sorted(item.iterdir())
    with pytest.raises(ShelfError, match="must be empty or not exist"):
        Shelf.create(item, tmp_path / "store")
    with pytest.raises(ShelfError, match="must be a folder or one of"):
        Shelf.create(tmp_path / "new", "ext://x")
    assert sorted(item.iterdir()) == before and sorted(tmp_path.iterdir()) == [item]


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["cclm", "shelf", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_the_command_line_publishes_fetches_lists_and_shows(
    place: Place,
    item: Path,
    old: Embedder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CCLM_SHELF", str(place.folder))
    (tmp_path / "scores.json").write_text('{"f1": 0.5}')
    options = ["--licence", "MIT", "--tag", "c1", "--scores", str(tmp_path / "scores.json")]
    code, out, err = run(capsys, monkeypatch, "publish", str(item), "poems", "embedder", *options, "--json")
    assert code == 0, err
    published = json.loads(out)
    assert published["tag"] == "c1" and published["signed"] is False
    fetch = ["fetch", "poems", "embedder", "c1", "--cache-dir", str(tmp_path / "cache")]
    code, out, _ = run(capsys, monkeypatch, *fetch, "--digest", published["digest"], "--json")
    fetched = json.loads(out)
    assert code == 0 and fetched["from"] == "shelf" and fetched["signature"] == "none"
    assert load_embedder(Path(fetched["folder"])).digest == old.digest
    code, out, _ = run(capsys, monkeypatch, *fetch, "--offline")
    assert code == 0 and "from       cache" in out
    code, out, _ = run(capsys, monkeypatch, "list")
    assert code == 0
    assert ["poems", "embedder", "c1", published["digest"][:12], "MIT", "no"] in [
        row.split() for row in out.splitlines()
    ]
    code, out, _ = run(capsys, monkeypatch, "list", "--json")
    assert [row["tags"] for row in json.loads(out)["items"] if row["identifier"] == "poems"] == [["c1"]]
    code, out, _ = run(capsys, monkeypatch, "show", "poems", "embedder")
    assert code == 0 and out.startswith("# poems\n") and "| f1 | 0.5 |" in out
    code, out, _ = run(capsys, monkeypatch, "show", "poems", "embedder", "--json")
    assert json.loads(out)["card"]["scores"] == {"f1": 0.5}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["list"], "or set CCLM_SHELF"),
        (["list", "--repo", "ext::sh"], "must be reached by https, ssh, file or a local path"),
        (["fetch", "../x", "embedder", "v1", "--repo", "shelf"], "an identifier must start with"),
        (["fetch", "x", "embedder", "v1", "--repo", "shelf", "--offline"], "is not in the cache"),
        (["show", "x", "poem", "--repo", "shelf"], "'poem' is not a type of item"),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_exit_code_2(
    arguments: list[str],
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert (code, out) == (2, "") and err.startswith("error: ") and why in err


def test_nothing_in_a_shelf_runs_or_is_used_on_publishing(place: Place, item: Path, tmp_path: Path) -> None:
    (place.folder / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {tmp_path / 'chosen'}\n")
    (place.folder / ".gitattributes").write_text("*.json text eol=crlf filter=lfs\n")
    git(place.folder, "add", "--force", ".dvc/config.local", ".gitattributes")
    place.commit()
    hooks = place.folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-receive", "update", "post-receive", "push-to-checkout", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-{name}\n")
        (hooks / name).chmod(0o755)
    done = place.shelf.publish(item, NAME, "embedder", about=ABOUT, tag="v9")
    assert place.shelf.show(NAME, "embedder", "v9") == done.card
    assert not list(tmp_path.glob("hook-*")) and not (tmp_path / "chosen").exists()


@pytest.mark.parametrize("text", ["[cache]\n    dir = {}", "['remote \"other\"']\n    url = {}"])
def test_other_settings_of_a_shelf_are_refused_on_publishing(
    place: Place, item: Path, tmp_path: Path, text: str
) -> None:
    config = place.folder / ".dvc" / "config"
    config.write_text(config.read_text() + text.format(tmp_path / "chosen") + "\n")
    place.commit()
    refuse(place, item, ShelfError, "must set only url")
    assert not (tmp_path / "chosen").exists()


def test_a_file_in_the_place_of_the_items_is_replaced(place: Place, item: Path) -> None:
    git(place.folder, "rm", "-rq", "items")
    (place.folder / "items").write_text("not a folder")
    git(place.folder, "add", "items")
    place.commit()
    done = place.shelf.publish(item, NAME, "embedder", about=ABOUT, tag="v9")
    assert place.shelf.show(NAME, "embedder") == done.card and git(place.folder, "status", "--porcelain") == ""


def test_names_in_a_shelf_cannot_control_the_terminal(place: Place, tmp_path: Path) -> None:
    folder = place.folder / "items" / "x\x1b]0;title\x07" / "embedder"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{}")
    git(place.folder, "add", "items")
    card = place.folder / "items" / NAME / "embedder" / "card.json"
    content = json.loads(card.read_text())["card"] | {"\x1b[2J": 1}
    card.write_text(canonical_json({"card": content, "digest": digest(content)}) + "\n")
    place.commit()
    for call in (
        lambda: place.shelf.show(NAME, "embedder"),
        lambda: place.shelf.list(),
        lambda: place.shelf.fetch("poems", "embedder", "main", tmp_path),
    ):
        with pytest.raises(CclmError) as raised:
            call()
        assert "\x1b" not in str(raised.value) and "\x07" not in str(raised.value)
