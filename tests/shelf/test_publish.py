"""Publishing: one commit and one tag, or an unchanged shelf."""

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
from tests.shelf.conftest import ABOUT, NAME, LocalShelf, git, saved


@pytest.fixture
def item(old: Embedder, tmp_path: Path) -> Path:
    return saved(old, tmp_path / "item")


def refuse(
    local: LocalShelf, item: Path, error: type[CclmError], message: str, tag: str = "v9", about: About = ABOUT
) -> None:
    before = local.state()
    with pytest.raises(error, match=message):
        local.shelf.publish(item, NAME, "embedder", about=about, tag=tag)
    assert local.state() == before


def test_list_shows_every_version_with_its_tags(original: LocalShelf) -> None:
    rows = original.shelf.list()
    assert [(row.card.item_type, row.tags, row.card.license, row.signed) for row in rows] == [
        ("composition", ["v3"], "CC0-1.0", False),
        ("embedder", ["v1"], "CC0-1.0", False),
        ("embedder", ["v2", "v3"], "CC0-1.0", False),
    ]
    assert [row.card.digest for row in rows[1:]] == [
        original.shelf.show(NAME, "embedder", tag).digest for tag in ("v1", "v2")
    ]
    assert {row.card.identifier for row in rows} == {NAME}


def test_the_card_combines_the_item_and_the_publishers_description(original: LocalShelf, new: Embedder) -> None:
    card = original.shelf.show(NAME, "composition")
    assert card.digests.base == new.digest and card.digests.vocabulary == new.preprocessor.digest
    assert card.configuration["parts"] == ["first", "second"]
    assert (card.scores, card.license, card.description) == ({"bits": 2.5}, "CC0-1.0", "characters of plays")
    assert "parts/second/component.safetensors" in {file.path for file in card.files}
    assert (original.folder / "items" / NAME / "composition" / "CARD.md").read_text() == card.to_markdown()


def test_git_stores_cards_and_pointers_and_the_storage_the_files(original: LocalShelf) -> None:
    assert git(original.folder, "status", "--porcelain") == ""
    tracked = git(original.folder, "ls-files", f"items/{NAME}/embedder").split()
    assert [Path(name).name for name in tracked] == [".gitignore", "CARD.md", "card.json", "item.dvc"]
    weights = next(file for file in original.shelf.show(NAME, "embedder").files if "safetensors" in file.path)
    assert (original.store / "files" / "md5" / weights.md5[:2] / weights.md5[2:]).stat().st_size == weights.size


def test_a_tag_never_moves(local: LocalShelf, item: Path) -> None:
    refuse(local, item, ShelfError, "the shelf has the tag 'v1' already", tag="v1")


def test_invalid_items_are_refused(local: LocalShelf, item: Path, tmp_path: Path) -> None:
    refuse(local, tmp_path / "nowhere", ArtifactError, "not found")
    (item / "link.json").symlink_to("embedder.json")
    refuse(local, item, IntegrityError, r"link.json' must be a regular file")
    (item / "link.json").unlink()
    (item / "model.pkl").write_bytes(b"")
    refuse(local, item, IntegrityError, "model.pkl is unexpected")
    (item / "model.pkl").unlink()
    refuse(local, item, ConfigError, "license: String should have at least 1 character", about=About(" "))
    refuse(local, item, ConfigError, "description: must be one line", about=About("MIT", "two\nlines"))
    refuse(local, item, ConfigError, "must be a plain name of a tag", tag="--force")
    with pytest.raises(ShelfError, match="git clone failed"):
        Shelf(tmp_path / "nowhere").publish(item, NAME, "embedder", about=ABOUT)


def test_a_storage_that_cannot_be_written_leaves_the_shelf_unchanged(
    local: LocalShelf, old: Embedder, tmp_path: Path
) -> None:
    shutil.rmtree(local.store)
    local.store.write_text("a file where the folder should be")
    refuse(local, saved(old, tmp_path / "item"), ShelfError, "dvc push failed: ERROR: .*Not a directory")


def test_uncommitted_changes_in_the_shelf_are_not_lost(local: LocalShelf, item: Path) -> None:
    card = local.folder / "items" / NAME / "embedder" / "CARD.md"
    card.write_text("being edited")
    refuse(local, item, ShelfError, "has changes that are not committed")
    assert card.read_text() == "being edited"


def test_publishing_an_item_again_adds_a_tag_to_the_same_commit(
    local: LocalShelf, new: Embedder, tmp_path: Path
) -> None:
    before = git(local.folder, "rev-parse", "HEAD")
    published = local.shelf.publish(saved(new, tmp_path / "item"), NAME, "embedder", about=ABOUT, tag="again")
    assert (published.commit, published.tags) == (before, ["again"])
    assert git(local.folder, "rev-parse", "again") == before
    assert local.shelf.show(NAME, "embedder", "v2") == published.card


def test_only_an_empty_folder_becomes_a_shelf(item: Path, tmp_path: Path) -> None:
    before = sorted(item.iterdir())
    with pytest.raises(ShelfError, match="must be empty or not exist"):
        Shelf.create(item, tmp_path / "store")
    with pytest.raises(ShelfError, match="must be a folder or one of"):
        Shelf.create(tmp_path / "new", "ext://x")
    assert sorted(item.iterdir()) == before and set(tmp_path.iterdir()) - {tmp_path / ".item.lock"} == {item}


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["cclm", "shelf", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out, output.err


def test_the_command_line_publishes_fetches_lists_and_shows(
    local: LocalShelf,
    item: Path,
    old: Embedder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CCLM_SHELF", str(local.folder))
    (tmp_path / "scores.json").write_text('{"f1": 0.5}')
    options = ["--license", "MIT", "--tag", "c1", "--scores", str(tmp_path / "scores.json")]
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
    ("arguments", "message"),
    [
        (["list"], "or set CCLM_SHELF"),
        (["list", "--repo", "ext::sh"], "must be reached by https, ssh, file or a local path"),
        (["fetch", "../x", "embedder", "v1", "--repo", "shelf"], "an identifier must start with"),
        (["fetch", "x", "embedder", "v1", "--repo", "shelf", "--offline"], "is not in the cache"),
        (["show", "x", "poem", "--repo", "shelf"], "'poem' is not a type of item"),
    ],
)
def test_a_user_error_is_one_message_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert (code, out) == (2, "") and err.startswith("error: ") and message in err


def test_publishing_ignores_settings_and_hooks_of_the_shelf(local: LocalShelf, item: Path, tmp_path: Path) -> None:
    (local.folder / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {tmp_path / 'foreign'}\n")
    (local.folder / ".gitattributes").write_text("*.json text eol=crlf filter=lfs\n")
    git(local.folder, "add", "--force", ".dvc/config.local", ".gitattributes")
    local.commit()
    hooks = local.folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("pre-receive", "update", "post-receive", "push-to-checkout", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-{name}\n")
        (hooks / name).chmod(0o755)
    published = local.shelf.publish(item, NAME, "embedder", about=ABOUT, tag="v9")
    assert local.shelf.show(NAME, "embedder", "v9") == published.card
    assert not list(tmp_path.glob("hook-*")) and not (tmp_path / "foreign").exists()


@pytest.mark.parametrize("text", ["[cache]\n    dir = {}", "['remote \"other\"']\n    url = {}"])
def test_other_settings_of_a_shelf_are_refused_on_publishing(
    local: LocalShelf, item: Path, tmp_path: Path, text: str
) -> None:
    config = local.folder / ".dvc" / "config"
    config.write_text(config.read_text() + text.format(tmp_path / "foreign") + "\n")
    local.commit()
    refuse(local, item, ShelfError, "must set only url")
    assert not (tmp_path / "foreign").exists()


def test_a_file_named_items_is_replaced(local: LocalShelf, item: Path) -> None:
    git(local.folder, "rm", "-rq", "items")
    (local.folder / "items").write_text("not a folder")
    git(local.folder, "add", "items")
    local.commit()
    published = local.shelf.publish(item, NAME, "embedder", about=ABOUT, tag="v9")
    assert local.shelf.show(NAME, "embedder") == published.card and git(local.folder, "status", "--porcelain") == ""


def test_tags_that_cannot_be_fetched_do_not_stop_the_list(local: LocalShelf) -> None:
    for tag in ("v\u202e1", "v\x9b31m", "v\u00a02", "v!"):
        git(local.folder, "tag", tag)
    assert {tag for row in local.shelf.list() for tag in row.tags} == {"v1", "v2", "v3"}
    with pytest.raises(ShelfError, match="tags: v3, v2, v1"):
        local.shelf.show(NAME, "embedder", "v4")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (About("MIT", scores={"a": float("nan")}), "must be a finite number"),
        (About("MIT", scores={"a\ud800": 1}), "scores must be finite numbers and texts"),
        (About("MIT", data_digest="x\x1b"), "digests.data: String should match pattern"),
        (About("MIT", scores={str(number): "x" * 1000 for number in range(5000)}), "a card must have at most"),
    ],
)
def test_values_that_a_card_cannot_hold_are_refused(local: LocalShelf, item: Path, about: About, message: str) -> None:
    refuse(local, item, ConfigError, message, about=about)


def test_names_in_a_shelf_cannot_control_the_terminal(local: LocalShelf, tmp_path: Path) -> None:
    folder = local.folder / "items" / "x\x1b]0;title\x07" / "embedder"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{}")
    git(local.folder, "add", "items")
    card = local.folder / "items" / NAME / "embedder" / "card.json"
    content = json.loads(card.read_text())["card"] | {"\x1b[2J": 1}
    card.write_text(canonical_json({"card": content, "digest": digest(content)}) + "\n")
    local.commit()
    for call in (
        lambda: local.shelf.show(NAME, "embedder"),
        lambda: local.shelf.list(),
        lambda: local.shelf.fetch("poems", "embedder", "main", tmp_path),
    ):
        with pytest.raises(CclmError) as raised:
            call()
        assert "\x1b" not in str(raised.value) and "\x07" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_settings_of_a_local_shelf_run_nothing(local: LocalShelf, item: Path, tmp_path: Path, scheme: str) -> None:
    """Whoever unpacks an archive with a shelf also gets its `.git/config`."""
    (local.folder / ".gitattributes").write_text(
        "items/** filter=evil\nitems/poems/embedder/CARD.md working-tree-encoding=UTF-16\n"
    )
    git(local.folder, "add", ".gitattributes")
    local.commit()
    git(tmp_path, "init", "--quiet", "--bare", "other")
    git(local.folder, "push", "--quiet", str(tmp_path / "other"), "main")
    (local.folder / ".git" / "objects" / "info" / "alternates").write_text(f"{tmp_path}/other/objects\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = f"sh -c 'touch {tmp_path}/ran-%s; cat' #"
    for name in ("filter.evil.smudge", "filter.evil.clean", "filter.evil.process", "core.sshCommand"):
        git(local.folder, "config", name, command % name)
    for name in ("core.alternateRefsCommand", "core.fsmonitor", "uploadpack.packObjectsHook", "core.pager"):
        git(local.folder, "config", name, command % name)
    git(local.folder, "config", "core.worktree", str(elsewhere))
    shelf = Shelf(f"{scheme}{local.folder}")
    published = shelf.publish(item, "poems", "embedder", about=ABOUT, tag="v9")
    assert shelf.show("poems", "embedder", "v9") == published.card
    assert shelf.fetch("poems", "embedder", "v9", tmp_path / "cache").is_dir()
    assert not list(tmp_path.glob("ran-*")) and not list(elsewhere.iterdir())
    git(local.folder, "config", "--remove-section", "filter.evil")
    git(local.folder, "config", "--unset", "core.worktree")
    git(local.folder, "config", "--unset", "core.fsmonitor")
    assert (local.folder / "items" / "poems" / "embedder" / "card.json").read_bytes() == published.card.to_bytes()
    assert git(local.folder, "status", "--porcelain") == ""


def test_an_incomplete_local_shelf_gets_nothing_from_the_place_that_it_names(local: LocalShelf, tmp_path: Path) -> None:
    """Git completes a partial clone by a command that the clone names."""
    name = git(local.folder, "rev-parse", "HEAD:items")
    (local.folder / ".git" / "objects" / name[:2] / name[2:]).unlink()
    git(local.folder, "config", "extensions.partialClone", "origin")
    git(local.folder, "config", "remote.origin.url", str(tmp_path))
    git(local.folder, "config", "remote.origin.uploadpack", f"touch {tmp_path}/ran;")
    with pytest.raises(ShelfError, match="git clone failed"):
        local.shelf.fetch(NAME, "embedder", "v1", tmp_path / "cache")
    assert not (tmp_path / "ran").exists()
