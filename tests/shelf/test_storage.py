"""A shelf sets only the address of its storage, no other DVC setting; credentials follow the address."""

from pathlib import Path

import pytest

from cclm_core.runtime.errors import IntegrityError, ShelfError
from cclm_core.shelf.address import read_remote
from cclm_core.shelf.files import ItemFile, check, copy
from cclm_core.shelf.programs import run
from cclm_core.shelf.storage import FILES, connect, download, upload


def settings(*lines: str, core: str = "remote = shelf") -> str:
    return "\n".join(["[core]", f"    {core}", "['remote \"shelf\"']", *(f"    {line}" for line in lines), ""])


def test_the_address_is_read_in_dvcs_notation() -> None:
    remote = read_remote(settings("url = s3://bucket/items", "region = here"), None)
    assert remote == {"url": "s3://bucket/items", "region": "here"}
    assert read_remote(settings("url = '/a,b #c'"), None) == {"url": "/a,b #c"}


def effective(folder: Path) -> dict[str, str]:
    """The settings of the default remote as DVC reads them."""
    lines = run("dvc", "config", "--list", at=folder).splitlines()
    values = dict(line.split("=", 1) for line in lines)
    prefix = f"remote.{values['core.remote']}."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def test_user_settings_apply_only_to_a_remote_with_the_same_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    mine = "['remote \"shelf\"']\n    url = https://mine.invalid/{}\n    user = alice\n    password = secret\n"
    (tmp_path / "mine" / "config").write_text(mine.format("x" * 200))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "mine"))
    for number, remote in enumerate(
        ({"url": "https://other.invalid/x"}, {"url": "/a,b #c"}, {"url": "s3://b/'x", "region": "here"})
    ):
        connect(remote, tmp_path / str(number))
        assert effective(tmp_path / str(number)) == remote
    connect({"url": "https://mine.invalid/" + "x" * 200, "region": "elsewhere"}, tmp_path / "same")
    assert effective(tmp_path / "same") == {
        **{"url": "https://mine.invalid/" + "x" * 200, "user": "alice", "password": "secret"}
    }


def test_a_relative_path_is_resolved_in_a_local_shelf(tmp_path: Path) -> None:
    remote = read_remote(settings("url = ../../store"), tmp_path / "shelf")
    assert remote == {"url": str(tmp_path / "store")}
    with pytest.raises(ShelfError, match=r"must have a remote at an address, got the path '\.\./store'"):
        read_remote(settings("url = ../store"), None)


@pytest.mark.parametrize(
    "key", ["bearer_token_command", "password", "keyfile", "ssl_verify", "credentialpath", "configpath", "endpointurl"]
)
def test_settings_that_run_commands_or_redirect_credentials_are_refused(key: str) -> None:
    with pytest.raises(ShelfError, match=f"must set only url.*got '{key}'"):
        read_remote(settings("url = webdavs://example.org/x", f"{key} = touch /tmp/x"), None)


@pytest.mark.parametrize("section", ["[cache]\n    dir = /y", "['remote \"other\"']\n    url = /y", "[db]"])
def test_other_sections_are_refused(section: str) -> None:
    with pytest.raises(ShelfError, match="must set only url"):
        read_remote(settings("url = /x") + section, None)


@pytest.mark.parametrize(
    "url", ["remote://other/x", "hdfs://example.org/x", "http://example.org/x", "-x", "ext://x", "a\x1b://x"]
)
def test_other_transports_are_refused(url: str) -> None:
    with pytest.raises(ShelfError, match=r"must be a folder or one of|must be `key = value`") as raised:
        read_remote(settings(f"url = {url}"), None)
    assert "\x1b" not in str(raised.value)


def test_a_value_cannot_inject_settings() -> None:
    for line in ("url = /x\n        [cache]\n        dir = /y", 'url = /x"\ty', "url = /x, /y", "url = %(region)s"):
        with pytest.raises(ShelfError, match="of the shelf must"):
            read_remote(settings(line), Path("/shelf"))


@pytest.mark.parametrize("text", ["", "[core]\nremote = other\n", "no settings", "[core]\n[core]\n"])
def test_a_shelf_without_a_remote_is_refused(text: str) -> None:
    with pytest.raises(ShelfError, match="of the shelf must"):
        read_remote(text, None)


@pytest.fixture
def stored(tmp_path: Path) -> tuple[dict[str, str], list[ItemFile]]:
    """A storage with three files, two of them with the same content."""
    source = tmp_path / "source"
    source.mkdir()
    contents = {"a.json": b"a" * 1000, "b/c.json": b"c" * 3000, "d.json": b"a" * 1000}
    for name, content in contents.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(content)
    work = tmp_path / "upload"
    files = copy({name: source / name for name in contents}, work / FILES)
    remote = {"url": str(tmp_path / "store")}
    upload(remote, work)
    return remote, list(files)


def test_downloaded_files_are_on_the_disk_once(stored: tuple[dict[str, str], list[ItemFile]], tmp_path: Path) -> None:
    remote, files = stored
    folder = tmp_path / "download"
    folder.mkdir()
    download(remote, files, folder)
    check(folder / FILES, files)
    assert not [path for path in (folder / ".dvc" / "cache").rglob("*") if path.is_file()]
    assert all((folder / FILES / file.path).stat().st_nlink == 1 for file in files)


def test_objects_larger_than_promised_are_not_written(
    stored: tuple[dict[str, str], list[ItemFile]], tmp_path: Path
) -> None:
    """One large object, many objects that are large together, and one a little too large."""
    remote, files = stored
    objects = {file.md5: tmp_path / "store" / "files" / "md5" / file.md5[:2] / file.md5[2:] for file in files}
    for number, sizes in enumerate(([300 << 20, 3000], [3001, 3000], [999, 3000])):
        for path, size in zip(objects.values(), sizes, strict=True):
            path.chmod(0o644)
            with path.open("r+b") as stream:
                stream.truncate(size)
            path.chmod(0o444)  # as DVC leaves it; DVC deletes an object with write permission and the wrong MD5
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(IntegrityError, match=r"is larger than|but the storage has"):
            download(remote, files, folder)
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10 << 20


def test_a_program_that_writes_too_much_in_many_files_is_stopped(tmp_path: Path) -> None:
    """Each file is below the limit of the largest one, but together they exceed what was promised."""
    fill = "!for i in 1 2 3 4; do head -c 1000000 /dev/zero > $i; done; sleep 600"
    with pytest.raises(IntegrityError, match="the storage sent 4,000,000 bytes or more, but the card promises less"):
        run("git", "-c", f"alias.fill={fill}", "fill", at=tmp_path, max_file=1_000_000, max_total=3_999_999)
