"""Refused names: they would leave the folder, or mean more than a name to git, DVC or an operating system."""

from pathlib import Path

import pytest

from cclm_core.runtime.errors import ConfigError, IntegrityError
from cclm_core.shelf import Shelf, names

IDENTIFIERS = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "/abs",
    "C:x",
    "-x",
    "--help",
    "a\0b",
    "a b",
    "a\n",
    "é",
    "a" * 101,
]
REVISIONS = [
    "",
    "-v1",
    "--upload-pack=x",
    "a..b",
    "v1^",
    "v1~1",
    "HEAD@{1}",
    "a:b",
    "a//b",
    "/a",
    "a/",
    "a.lock",
    "a b",
]
REPOSITORIES = [
    *("", "-u", "--upload-pack=touch x", "ext::sh -c x", "fd::17", "transport::address", "a\nb", "a\0b"),
    *("http://example.org/shelf", "git://example.org/shelf", "ext://example.org", "ssh://-oProxyCommand=x/shelf"),
    *("https://[", "~nobody-of-this-name/x", "file://host/a", "file:///a%00b"),
    *("https://name:secret@example.org/shelf", "ssh://-x@example.org/shelf"),
]
FILES = [
    "../x.json",
    "/x.json",
    "a/../x.json",
    "a//x.json",
    "a\\x.json",
    "C:x.json",
    "-x.json",
    ".git/x.json",
    "a\0.json",
]


@pytest.mark.parametrize("name", [*IDENTIFIERS, "con", "NUL", "com1.x", "a."])
def test_invalid_identifiers_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="an identifier must start with"):
        names.check_item(name, "embedder")
    with pytest.raises(ConfigError, match="an identifier must start with"):
        Shelf(tmp_path).fetch(name, "embedder", "v1", tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "en_wiki_clm_1", "A.b-c", "0", "a..b", "concept"])
def test_plain_identifiers_are_accepted(name: str) -> None:
    names.check_item(name, "embedder")


def test_an_unknown_type_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'embedder'"):
        Shelf(tmp_path).show("plays", "embeder")


@pytest.mark.parametrize("name", REVISIONS)
def test_revision_expressions_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="must be a plain name of a tag, branch or commit"):
        names.check_revision(name)


@pytest.mark.parametrize("name", ["v0.2.1", "main", "feature/x", "plays@v1", "a" * 40, "1.0+2"])
def test_plain_revisions_are_accepted(name: str) -> None:
    names.check_revision(name)


@pytest.mark.parametrize("name", REPOSITORIES)
def test_addresses_that_run_commands_or_contain_passwords_are_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"a shelf must|of a shelf must|no shelf is configured|a file address must"
    ) as raised:
        Shelf(name)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["https://example.org/a.git", "ssh://git@example.org/a", "git@example.org:a/b", "file:///a"]
)
def test_addresses_are_not_changed(name: str) -> None:
    assert Shelf(name).repository == name


def test_a_path_becomes_absolute_and_the_default_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Shelf("shelf").repository == str(tmp_path / "shelf")
    with pytest.raises(ConfigError, match="or set CCLM_SHELF"):
        Shelf()
    monkeypatch.setenv("CCLM_SHELF", "other")
    assert Shelf().repository == str(tmp_path / "other")


@pytest.mark.parametrize(
    "name",
    [
        *FILES,
        "a.pkl",
        "a.py",
        "code/a/b.py",
        "code.py/a.py",
        "a.bin",
        "a",
        "a.json.",
        "a /x.json",
        "nul/x.json",
        "x\n.json",
        "x\x9b.json",
        "x\u202e.json",
        "/".join(["a" * 90] * 9) + ".json",
    ],
)
def test_invalid_file_names_are_refused(name: str) -> None:
    with pytest.raises(IntegrityError, match="must not be in an item"):
        names.check_file_names(["fine.json", name])


def test_file_names_that_collide_on_some_systems_are_refused() -> None:
    names.check_file_names(["parts/a.json", "parts/b.json", "a.json"])
    for pair in (
        ["a.json", "A.json"],
        ["é.json", "e\u0301.json"],
        ["a.json", "a.json/b.json"],
        ["A/x.json", "a/y.json"],
    ):
        with pytest.raises(IntegrityError, match="some systems confuse them"):
            names.check_file_names(pair)
