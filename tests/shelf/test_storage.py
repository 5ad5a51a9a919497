"""A shelf may say where its files are, and nothing else of what DVC can be told."""

from pathlib import Path

import pytest

from cclm_core.runtime.errors import ShelfError
from cclm_core.shelf.storage import Remote


def settings(*lines: str, core: str = "remote = shelf") -> str:
    return "\n".join(["[core]", f"    {core}", "['remote \"shelf\"']", *(f"    {line}" for line in lines), ""])


def test_the_address_is_read_as_dvc_writes_it(tmp_path: Path) -> None:
    found = Remote.parse(settings("url = s3://bucket/items", "region = here"), None)
    assert found == Remote("shelf", {"url": "s3://bucket/items", "region": "here"})
    assert Remote.parse(settings("url = '/a,b #c'"), None).settings["url"] == "/a,b #c"
    assert Remote.parse(found.as_config(tmp_path), None) == found
    assert Remote.parse(Remote("yours", found.settings).as_config(tmp_path), None) == found


def test_a_relative_path_begins_at_the_settings_of_a_local_shelf(tmp_path: Path) -> None:
    assert Remote.parse(settings("url = ../../store"), tmp_path / "shelf").settings["url"] == str(tmp_path / "store")
    with pytest.raises(ShelfError, match=r"must have one too, got the path '\.\./store'"):
        Remote.parse(settings("url = ../store"), None)


@pytest.mark.parametrize("key", ["bearer_token_command", "password", "keyfile", "ssl_verify", "credentialpath"])
def test_settings_that_run_commands_or_hold_secrets_are_refused(key: str) -> None:
    with pytest.raises(ShelfError, match=f"must bring only url.*got '{key}'"):
        Remote.parse(settings("url = webdavs://example.org/x", f"{key} = touch /tmp/x"), None)


@pytest.mark.parametrize("url", ["remote://other/x", "hdfs://example.org/x", "http://example.org/x", "-x", "ext://x"])
def test_other_transports_are_refused(url: str) -> None:
    with pytest.raises(ShelfError, match="must be a folder or one of"):
        Remote.parse(settings(f"url = {url}"), None)


def test_a_value_cannot_become_more_settings() -> None:
    for line in ("url = /x\n        [cache]\n        dir = /y", 'url = /x"\ty'):
        with pytest.raises(ShelfError, match="must be one line without quotes"):
            Remote.parse(settings(line), None)


@pytest.mark.parametrize("text", ["", "[core]\nremote = other\n", "no settings", "[core]\n[core]\n"])
def test_a_shelf_without_a_remote_is_refused(text: str) -> None:
    with pytest.raises(ShelfError, match="of the shelf must"):
        Remote.parse(text, None)
