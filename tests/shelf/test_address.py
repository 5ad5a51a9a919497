"""A shelf's `.dvc/config`: what is accepted means the same to DVC; everything else is refused with one error."""

import random
from pathlib import Path

import pytest

from cclm_core.runtime.errors import ShelfError
from cclm_core.shelf.address import ALLOWED, read_remote

CONFIGURATIONS = [
    "[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = s3://bucket/items\n    region = eu-west-1\n",
    "[core]\nanalytics = false\nremote=Shelf\n\n['remote \"Shelf\"']\nURL = ../../store\n# a comment\n",
    '[\'remote "a b"\']\n    url = "/a,b #c"\n[core]\n    remote = a b\n',
    "[core]\r\n    remote = x\r\n['remote \"x\"']\r\n    url = https://example.org/x\r\n",
    "[core]\n\tremote = 'x'\n[remote \"x\"]\n\turl = azure://items/x\n\taccount_name = 'store'\n",
]
PIECES = [
    *(
        "'",
        '"',
        "'''",
        '"""',
        "#",
        ";",
        ",",
        "=",
        ":",
        "[",
        "]",
        "[[",
        "]]",
        "\\",
        "\n",
        "\r",
        "\t",
        " ",
        "\0",
        "%(url)s",
    ),
    *(
        "\u2028",
        "\x85",
        "\ufeff",
        "\xa0",
        "\x1b",
        "$url",
        "${url}",
        "\n    ",
        "\n[cache]\n    dir = /x\n",
        "\n[core]\n",
    ),
    *("remote = other\n", "['remote \"other\"']\n", "url = /other\n", "endpointurl = http://x\n", "url = a, b\n"),
    *("../", "~/", "@", "://", "s3://", "file:///", "-", "İ", "ß", "K", "%", "''", '""', "remote", "core", "include"),
]


def mutate(text: str, generator: random.Random) -> str:
    """Inserts pieces that one parser or the other could take for syntax, deletes and duplicates parts."""
    for _ in range(generator.randint(1, 3)):
        place, length = generator.randrange(len(text) + 1), generator.randint(0, 30)
        part = text[place : place + length]
        text = generator.choice(
            [
                text[:place] + generator.choice(PIECES) + text[place:],
                text[:place] + text[place + length :],
                text[:place] + part + part + text[place + length :],
                text[:place] + part.swapcase() + text[place + length :],
            ]
        )
    return text


def dvc_remote(path: Path) -> dict[str, str]:
    """The default remote as DVC reads it."""
    from dvc.config import Config

    config = Config._load_paths(Config.load_file(str(path)), str(path))
    assert {key for key, value in config.items() if value} <= {"core", "remote"}
    name = config["core"]["remote"].lower()
    assert list(config["remote"]) == [name]
    return {key: str(value) for key, value in config["remote"][name].items()}


@pytest.mark.parametrize("number", range(len(CONFIGURATIONS)))
def test_accepted_settings_mean_the_same_to_dvc(number: int, tmp_path: Path) -> None:
    generator = random.Random(number)
    accepted = 0
    path = tmp_path / "shelf" / ".dvc" / "config"
    path.parent.mkdir(parents=True)
    for round_ in range(600):
        text = mutate(CONFIGURATIONS[number], generator) if round_ else CONFIGURATIONS[number]
        try:
            remote = read_remote(text, tmp_path / "shelf")
        except ShelfError as error:
            assert str(error).replace("\n", " ").isprintable()
            continue
        accepted += 1
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        theirs = dvc_remote(path)
        assert theirs | {"url": theirs["url"].removeprefix("file://")} == remote, text
        assert set(remote) <= set(ALLOWED)
    assert 0 < accepted < 600


@pytest.mark.parametrize("start", range(0, 120, 20))
def test_no_cut_configuration_hides_a_setting(start: int, tmp_path: Path) -> None:
    """The known attack: a quote that one parser sees and the other does not."""
    hidden = "['remote \"shelf\"']\n    url = s3://bucket/x\n    configpath = ../evil\n"
    harmless = "['remote \"shelf\"']\n    url = s3://bucket/x\n"
    for quote in ("'''", '"""'):
        text = (
            f"[core]\n    remote = shelf\n[studio]\n    url = x\n    {hidden}    url = {quote}\n{harmless}# {quote}\n"
        )
        for end in range(start, min(start + 20, len(text))):
            with pytest.raises(ShelfError):
                read_remote(text[: len(text) - end], tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://[", "must be an address"),
        ("https://user:secret@example.org/x", "must not contain a password"),
        ("https://-x/y", "a plain host or bucket name"),
        ("https://example.org\\@other.org/x", "a plain host or bucket name"),
        ("s3://user@bucket/x", "a plain host or bucket name"),
        ("azure://items@other.example/x", "a plain host or bucket name"),
        ("~/store", "must be a folder or one of"),
        ("file://host/x", "must have a remote at an address"),
        ("S3://bucket/x", "must be a folder or one of"),
    ],
)
def test_addresses_that_programs_could_read_differently_are_refused(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ShelfError, match=message) as raised:
        read_remote(f"[core]\nremote = s\n['remote \"s\"']\nurl = {url}\n", tmp_path)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "line",
    ["account_name = evil.example/?", "account_name = 'evil.example#'", "region = x.evil.example/", "region = 'a b'"],
)
def test_settings_that_become_part_of_a_host_name_are_plain_words(line: str) -> None:
    """The providers' libraries build `https://<account_name>.blob.core.windows.net` and send credentials there."""
    with pytest.raises(ShelfError, match="of the shelf's remote must match"):
        read_remote(f"[core]\nremote = s\n['remote \"s\"']\nurl = azure://items/x\n{line}\n", None)
