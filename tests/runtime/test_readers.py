"""JSON and YAML: what the libraries read differently from a person, or fail on, is one error with path and remedy."""

import doctest
import os
import random
from pathlib import Path

import pytest

from cclm_core.runtime import readers
from cclm_core.runtime.errors import ArtifactError, CclmError, ConfigError, DataError
from cclm_core.runtime.readers import parse_json, parse_yaml, read_bytes, read_json, read_yaml


def test_the_examples_are_right() -> None:
    assert doctest.testmod(readers).failed == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b'{"a": 1', "is not valid JSON"),
        (b"\xff\xfe", "is not valid: 'utf-8' codec"),
        (b"\xef\xbb\xbf{}", "is not valid JSON: Unexpected UTF-8 BOM"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' appears twice"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"[1e999]", "number out of range: inf"),
        (b'["\\ud800"]', "a lone surrogate in"),
        (b'{"\\udc00": 1}', "a lone surrogate in"),
        (b"1" * 5000, "is not valid: Exceeds the limit"),
        (b"[" * 200_000, "nested deeper than 100 levels"),
        (b"[" * 200 + b"]" * 200, "nested deeper than 100 levels"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "nested deeper than 100 levels"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_not_strict_json_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"^a.json.*{message}.*Run the stage that creates it"):
        parse_json(content, "a.json")
    with pytest.raises(DataError, match="Fetch it again"):
        parse_json(content, "a.json", DataError, "Fetch it again.")


def test_valid_json_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, null, true, "\\ud83d\\ude00"]}', "a.json") == {"a": [1, 2.5, None, True, "😀"]}
    assert parse_json(b"[" * 100 + b"]" * 100, "a.json")
    assert parse_json("[NaN, 1e999]", "a.json", allow_nan=True)[1] == float("inf")


def test_files_that_cannot_be_read_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.json not found\. Run the stage"):
        read_json(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="must be a file, but it is a folder or a device"):
        read_yaml(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="must be a file, but it is a folder or a device"):
        read_json(tmp_path / "pipe")
    (tmp_path / "a.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    for read in (read_json, read_yaml):
        with pytest.raises(CclmError, match=r"is a pointer of Git LFS, not the file itself\. Run `git lfs pull`"):
            read(tmp_path / "a.json")
    with pytest.raises(ArtifactError, match="must have at most 10 bytes, got 63"):
        read_bytes(tmp_path / "a.json", max_bytes=10)
    with pytest.raises(ArtifactError, match=r"cannot be read: Not a directory|not found"):
        read_json(str(tmp_path / "a.json" / "b.json"))
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ArtifactError, match=r"a\.json must contain a JSON object, got \[1\]"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("components: {2024: {}}", r'line 1, column 14: YAML reads the key 2024 as an int\. Put it in quotes: "2024"'),
        ("a:\n  on: {}", 'line 2, column 3: YAML reads the key on as a bool. Put it in quotes: "on"'),
        ("a: {1.5: x}", "YAML reads the key 1.5 as a float"),
        ("a: {null: x}", "YAML reads the key null as a null"),
        ("2024-01-01: x", "YAML reads the key 2024-01-01 as a timestamp"),
        ("a: [2024-01-01]", 'line 1, column 5: YAML reads 2024-01-01 as a date. Put it in quotes: "2024-01-01"'),
        ("a: 2001-99-99", "YAML reads 2001-99-99 as a date"),
        ("a: !!timestamp abc", "YAML reads abc as a date"),
        ("a: [010]", r'YAML reads 010 as the number 8\. Write 8, or put it in quotes: "010"'),
        ("a: 12:30", "YAML reads 12:30 as the number 750"),
        ("a: 12:30.5", "YAML reads 12:30.5 as the number 750.5"),
        ("[a]: x", "a key must be a name"),
        ("seed: 1\nseed: 2", "line 2, column 1: the key 'seed' appears twice in one mapping"),
        ("a: {b: 1, c: 2, b: 3}", "the key 'b' appears twice"),
        ("a: !!int abc", "is not valid YAML"),
        ("a: !!float abc", "is not valid YAML"),
        ("a: " + "1" * 5000, "is not valid YAML"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested deeper than 100 levels"),
        ("a: &a [*a]", "nested deeper than 100 levels"),
        ("a: !!python/object:os.system {}", "is not valid YAML: line 1, column 4: could not determine a constructor"),
        ("a: !!set {b}", "value of type set"),
        ("a: !!binary aGk=", "value of type bytes"),
        ('a: "\\ud800"', "is not valid YAML"),
        ("a: [1", "is not valid YAML: line"),
        ("a: b\0", "is not valid YAML"),
        ("--- a\n--- b", "is not valid YAML"),
        ("*nothing", "is not valid YAML"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_yaml_that_is_misread_or_damaged_is_refused(content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^p.yaml.*{message}"):
        parse_yaml(content, "p.yaml")


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="more than 1,048,576 values"):
        parse_yaml("\n".join(lines), "p.yaml")


def test_valid_yaml_is_read_as_before() -> None:
    text = """
    "2024": {"on": "2024-01-01"}
    shared: &shared {a: 1, b: 0.5}
    merged: {<<: *shared, a: 2}
    rates: [0.1, 1e-3, 0x10, 1_000, 0, -0]
    flags: [true, off, null, ~]
    text: "\\U0001F600 é"
    """
    assert parse_yaml(text, "p.yaml") == {
        "2024": {"on": "2024-01-01"},
        "shared": {"a": 1, "b": 0.5},
        "merged": {"a": 2, "b": 0.5},
        "rates": [0.1, "1e-3", 16, 1000, 0, 0],
        "flags": [True, False, None, None],
        "text": "😀 é",
    }


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_damaged_bytes_never_raise_anything_else(parse: object) -> None:
    good = b'{"seed": 1, "noise": {"rates": [0.1, 2001], "kinds": {"swap": 2}}, "day": "2001-01-01", "t": [null, true]}'
    draw = random.Random(1)
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            where = draw.randrange(len(bad))
            bad[where : where + draw.randint(0, 9)] = draw.choice(
                (b"", b"\xff", b"\0", b"[" * 300, b"{", b"\n", b":", b"!!int ", b"&a ", b"*a", b"- ", b"\xe2\x80\xae")
            )
        try:
            parse(bytes(bad), "x")  # type: ignore[operator]
        except CclmError as error:
            assert str(error).startswith("x")
