"""Fetching: exactly the published bytes, or an error."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import load_composition, load_embedder
from cclm_core.encoders.embedder import Embedder
from cclm_core.runtime.errors import ConfigError, IntegrityError, ShelfError
from cclm_core.shelf import Shelf
from cclm_core.shelf.cache import Cache
from cclm_core.shelf.card import Card
from tests.shelf.conftest import ABOUT, NAME, LocalShelf, git, saved

ROOT = Path(__file__).parents[2]
TEXT = "If music be the food of love"
LOAD = f"""
import hashlib, sys
import torch
torch.set_num_threads(1)
from cclm_core import Shelf, load
folder = Shelf(sys.argv[1]).fetch("{NAME}", "composition", tag="v3", cache_dir=sys.argv[2])
print(hashlib.sha256(load(folder).embed(["{TEXT}"])[0].tobytes()).hexdigest())
"""
FETCH = f"""
import sys
from cclm_core import Shelf
print(Shelf(sys.argv[1]).fetch("{NAME}", "composition", tag="v3", cache_dir=sys.argv[2]))
"""


def start(code: str, local: LocalShelf, cache: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, str(local.folder), str(cache)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in (cache / ".shelf" / "work").iterdir() if path.suffix != ".lock"]


def assert_cache_is_empty(cache: Path) -> None:
    assert not list((cache / NAME).rglob("*.json")) and leftovers(cache) == []


@pytest.fixture(scope="module")
def filled(original: LocalShelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the old embedder, fetched by tag, and the new one, fetched by branch."""
    cache = tmp_path_factory.mktemp("filled")
    for name in ("v1", "v1", "main"):
        original.shelf.fetch(NAME, "embedder", name, cache)
    return cache


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "cache"))


def test_a_new_process_fetches_and_loads_a_composition_with_equal_output(
    original: LocalShelf, composed: ComposedModel, tmp_path: Path
) -> None:
    process = start(LOAD, original, tmp_path)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert out.strip() == hashlib.sha256(composed.embed([TEXT])[0].tobytes()).hexdigest()


def test_the_cache_can_be_a_relative_path(
    original: LocalShelf, old: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = original.shelf.fetch(NAME, "embedder", "v1", "here/cache")
    assert folder.is_relative_to(tmp_path / "here" / "cache")
    assert load_embedder(folder).digest == old.digest


def test_an_old_tag_returns_the_old_version_and_a_branch_the_new_one(
    original: LocalShelf, cache: Path, old: Embedder, new: Embedder
) -> None:
    folder = original.shelf.fetch(NAME, "embedder", "v1", cache)
    assert load_embedder(folder).digest == old.digest != new.digest
    assert folder.parents[2] == cache / NAME and folder.name == "item"
    assert original.shelf.show(NAME, "embedder", "v1").digests.model == old.digest
    assert load_embedder(original.shelf.fetch(NAME, "embedder", "main", cache)).digest == new.digest


def test_a_commit_can_be_abbreviated(original: LocalShelf, cache: Path) -> None:
    commit = git(original.folder, "rev-parse", "v1^{commit}")
    for name in (commit, commit[:9]):
        fetched = original.shelf.fetch_with_card(NAME, "embedder", name, cache)
        assert (fetched.commit, fetched.folder) == (commit, original.shelf.fetch(NAME, "embedder", "v1", cache))
        assert not fetched.cached and original.shelf.fetch_with_card(NAME, "embedder", name, cache).cached


def test_a_fetched_item_needs_neither_shelf_nor_storage(local: LocalShelf, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = local.shelf.fetch(NAME, "embedder", "v2", cache)
    branch = local.shelf.fetch(NAME, "embedder", "main", cache)
    shutil.rmtree(local.folder)
    shutil.rmtree(local.store)
    assert local.shelf.fetch(NAME, "embedder", "v2", cache) == folder == branch
    load_embedder(folder)
    with pytest.raises(ShelfError, match="git clone failed"):  # a branch is looked up each time
        local.shelf.fetch(NAME, "embedder", "main", cache)
    assert local.shelf.fetch(NAME, "embedder", "main", cache, offline=True) == branch
    with pytest.raises(ShelfError, match="plays/embedder at v1 is not in the cache"):
        local.shelf.fetch(NAME, "embedder", "v1", cache, offline=True)


def test_a_file_address_is_a_local_shelf(local: LocalShelf, tmp_path: Path) -> None:
    load_embedder(Shelf(f"file://{local.folder}").fetch(NAME, "embedder", "main", tmp_path / "cache"))


def test_a_shelf_at_an_address_cannot_choose_a_folder_of_this_machine(
    local: LocalShelf, old: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is ssh, by a program that runs the other side on this machine."""
    program = tmp_path / "ssh"
    program.write_text('#!/bin/sh\nexec sh -c "$2"\n')
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    git(tmp_path, "clone", "--quiet", "--bare", str(local.folder), "bare")
    shelf = Shelf(f"ssh://host{tmp_path}/bare")
    cache = tmp_path / "cache"
    with pytest.raises(ShelfError, match="must have a remote at an address, got the path"):
        shelf.fetch(NAME, "embedder", "main", cache)
    config = local.folder / ".dvc" / "config"
    config.write_text(config.read_text().replace("../../store", str(local.store)))
    local.commit()
    git(local.folder, "push", "--quiet", str(tmp_path / "bare"), "main")
    before = git(tmp_path / "bare", "for-each-ref")
    with pytest.raises(ShelfError, match="must not be a folder of this machine"):
        shelf.fetch(NAME, "embedder", "main", cache)
    with pytest.raises(ShelfError, match="must not be a folder of this machine"):
        shelf.publish(saved(old, tmp_path / "item"), "poems", "embedder", about=ABOUT, tag="v9")
    assert git(tmp_path / "bare", "for-each-ref") == before

    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "config").write_text(f"['remote \"mine\"']\n    url = {local.store}\n")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(settings))
    load_embedder(shelf.fetch(NAME, "embedder", "main", cache))
    assert shelf.publish(tmp_path / "item", "poems", "embedder", about=ABOUT, tag="v9").tags == ["v9"]


def test_fetch_with_positional_arguments_and_the_shelf_from_the_environment(
    original: LocalShelf, old: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no shelf is configured: give its path or address, or set CCLM_SHELF"):
        Shelf()
    monkeypatch.setenv("CCLM_SHELF", str(original.folder))
    shelf = Shelf()
    identifier = NAME
    item_type = "embedder"
    shelf.fetch(identifier, item_type, tag="v1", cache_dir=".cclm")
    assert load_embedder(shelf.fetch(identifier, item_type, tag="v1", cache_dir=".cclm")).digest == old.digest


def test_missing_tags_items_shelves_and_wrong_digests_are_errors(original: LocalShelf, tmp_path: Path) -> None:
    with pytest.raises(ShelfError, match=r"v9 is not a tag, branch or commit of the shelf.*v1"):
        original.shelf.fetch(NAME, "embedder", "v9", tmp_path)
    with pytest.raises(ShelfError, match="it has plays/embedder"):
        original.shelf.fetch("poems", "embedder", "v1", tmp_path)
    with pytest.raises(ShelfError, match="git clone failed"):
        Shelf(tmp_path / "nowhere").fetch(NAME, "embedder", "v1", tmp_path)
    with pytest.raises(IntegrityError, match=f"must have the digest {'0' * 64}"):
        original.shelf.fetch(NAME, "embedder", "v1", tmp_path, digest="0" * 64)
    assert_cache_is_empty(tmp_path)


@pytest.mark.parametrize("change", ["altered", "missing"])
def test_altered_and_missing_files_in_the_storage_are_detected(local: LocalShelf, tmp_path: Path, change: str) -> None:
    card = local.shelf.show(NAME, "embedder", "v1")
    weights = next(file for file in card.files if file.path.endswith(".safetensors"))
    stored = local.store / "files" / "md5" / weights.md5[:2] / weights.md5[2:]
    stored.chmod(0o644)
    if change == "altered":
        changed = bytearray(stored.read_bytes())
        changed[-1] ^= 1
        stored.write_bytes(changed)
    else:
        stored.unlink()
    with pytest.raises((IntegrityError, ShelfError), match=r"embedder.safetensors"):
        local.shelf.fetch(NAME, "embedder", "v1", tmp_path / "cache")
    assert_cache_is_empty(tmp_path / "cache")


def forge(local: LocalShelf, **changes: int) -> None:
    """Commits a card with matching digests but other values for the weights file."""
    path = local.folder / "items" / NAME / "embedder" / "card.json"
    card = Card.from_bytes(path.read_bytes(), NAME, "embedder")
    files = tuple(file.model_copy(update=changes if file.path.endswith(".safetensors") else {}) for file in card.files)
    path.write_bytes(card.model_copy(update={"files": files}).to_bytes())
    local.commit()


def test_a_file_larger_than_in_the_card_is_not_fully_downloaded(local: LocalShelf, tmp_path: Path) -> None:
    card = local.shelf.show(NAME, "embedder", "v1")
    weights = next(file for file in card.files if file.path.endswith(".safetensors"))
    stored = local.store / "files" / "md5" / weights.md5[:2] / weights.md5[2:]
    stored.chmod(0o644)
    os.truncate(stored, 64 << 20)
    stored.chmod(0o444)  # like DVC; DVC verifies a writable file before it copies it
    seen, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            for folder, _, names in os.walk(tmp_path / "cache"):
                for name in names:
                    with contextlib.suppress(OSError):
                        seen[0] = max(seen[0], Path(folder, name).stat().st_size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(IntegrityError, match="is larger than"):
            local.shelf.fetch(NAME, "embedder", "v1", tmp_path / "cache")
    finally:
        stop.set()
        watcher.join()
    assert 0 < seen[0] < 8 << 20
    assert_cache_is_empty(tmp_path / "cache")


def test_an_item_that_does_not_fit_on_the_disk_is_not_downloaded(local: LocalShelf, tmp_path: Path) -> None:
    forge(local, size=1 << 60)
    with pytest.raises(ShelfError, match="bytes of disk space"):
        local.shelf.fetch(NAME, "embedder", "main", tmp_path / "cache")
    assert_cache_is_empty(tmp_path / "cache")


@pytest.mark.parametrize("change", ["byte", "missing", "extra", "link", "readme", "card", "folder"])
def test_an_altered_cached_item_is_detected_and_removed(original: LocalShelf, cache: Path, change: str) -> None:
    folder = original.shelf.fetch(NAME, "embedder", "v1", cache)
    victim = folder / "embedder.json"
    if change == "byte":
        victim.write_bytes(victim.read_bytes().replace(b"16", b"17", 1))
    elif change == "missing":
        victim.unlink()
    elif change == "extra":
        (folder / "more.json").write_text("{}")
    elif change == "link":
        victim.rename(cache / "elsewhere.json")
        victim.symlink_to(cache / "elsewhere.json")
    elif change == "readme":
        (folder.parent / "CARD.md").write_text("another license")
    elif change == "card":
        card = Card.from_bytes((folder.parent / "card.json").read_bytes(), NAME, "embedder")
        (folder.parent / "card.json").write_bytes(card.model_copy(update={"license": "MIT"}).to_bytes())
    else:
        (folder.parent / "more").mkdir()
    with pytest.raises(IntegrityError, match="The copy in the cache was altered after it was fetched"):
        original.shelf.fetch(NAME, "embedder", "v1", cache)
    assert not folder.parent.exists() and leftovers(cache) == []
    if change == "byte":
        load_embedder(original.shelf.fetch(NAME, "embedder", "v1", cache))


def test_an_altered_or_swapped_card_in_the_shelf_is_refused(local: LocalShelf, tmp_path: Path) -> None:
    folder = local.folder / "items" / NAME / "embedder"
    whole = (folder / "card.json").read_bytes()
    (folder / "card.json").write_bytes(whole.replace(b'"bits":2.5', b'"bits":1.5'))
    local.commit()
    with pytest.raises(IntegrityError, match="is altered: its content does not match its digest"):
        local.shelf.fetch(NAME, "embedder", "main", tmp_path / "cache")
    with pytest.raises(IntegrityError, match="is altered: its content does not match its digest"):
        local.shelf.list()
    shutil.copyfile(folder.parent / "composition" / "card.json", folder / "card.json")
    local.commit()
    with pytest.raises(IntegrityError, match="is altered: it is the card of 'plays/composition'"):
        local.shelf.show(NAME, "embedder")
    (folder / "card.json").unlink()
    (folder / "card.json").symlink_to("../composition/card.json")
    local.commit()
    with pytest.raises(IntegrityError, match="must be a regular file in the shelf, but its mode is 120000"):
        local.shelf.fetch(NAME, "embedder", "main", tmp_path / "cache")
    assert_cache_is_empty(tmp_path / "cache")


def test_shelf_settings_cannot_run_a_command(local: LocalShelf, tmp_path: Path) -> None:
    config = local.folder / ".dvc" / "config"
    config.write_text(config.read_text() + f"    bearer_token_command = touch {tmp_path / 'ran'}\n")
    local.commit()
    with pytest.raises(ShelfError, match="bearer_token_command"):
        local.shelf.fetch(NAME, "embedder", "main", tmp_path / "cache")
    assert not (tmp_path / "ran").exists()
    assert_cache_is_empty(tmp_path / "cache")


def test_processes_can_fetch_the_same_item_at_the_same_time(original: LocalShelf, tmp_path: Path) -> None:
    processes = [start(FETCH, original, tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    folders = {out.strip() for out, _ in outputs}
    assert len(folders) == 1 and leftovers(tmp_path) == []
    assert original.shelf.fetch_with_card(NAME, "composition", "v3", tmp_path).cached
    load_composition(Path(folders.pop()))


@pytest.mark.parametrize("moment", ["storage/.dvc", "version/item"])
def test_leftovers_of_a_killed_fetch_are_never_used(original: LocalShelf, tmp_path: Path, moment: str) -> None:
    process = start(FETCH, original, tmp_path)
    while process.poll() is None and not list(tmp_path.glob(f".shelf/work/*/*/{moment}")):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    complete = [path.parent for path in tmp_path.glob(f"{NAME}/*/*/card.json")]
    assert all((folder / "item" / "composition.json").is_file() for folder in complete)
    if moment != "version/item":  # a fetch can finish before it is killed
        assert process.returncode == -signal.SIGKILL and not complete
    folder = original.shelf.fetch(NAME, "composition", "v3", tmp_path)
    features = load_composition(folder).embed([TEXT])[0]
    assert features.shape == (len(TEXT), 40) and np.isfinite(features).all()
    with Cache(tmp_path, NAME, "composition").work():  # also removes what the DVC child of the killed fetch wrote last
        pass
    assert leftovers(tmp_path) == []
