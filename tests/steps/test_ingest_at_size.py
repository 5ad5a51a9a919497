"""Large corpora: equal bytes for any number of workers, duplicates, filters, and encoding after `ingest`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import read_records
from cclm_core.ingest.sources import base, lines
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.ingest import ingest
from cclm_core.steps.params import Params
from cclm_core.steps.vocab import vocab

SHARES = {"validation_share": 0.2, "test_share": 0.2}


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The main process splits the source into pieces. Small pieces make a small source behave like a large one.
    monkeypatch.setattr(base, "BATCH_BYTES", 4000)
    monkeypatch.setattr(lines, "BATCH_BYTES", 4000)
    monkeypatch.setattr(lines, "_BLOCK", 1000)


def _ingest(section: dict[str, Any], out: str, workers: int) -> bytes:
    Path("params.yaml").write_text(json.dumps({"seed": 1, "ingest": section, "vocabulary": {"max_characters": 60}}))
    ingest(Params.load(Path("params.yaml")), Path("downloads"), Path(f"{out}/corpus"), null_report, workers)
    return (Path(out) / "corpus/manifest.json").read_bytes()


def _encode(out: str, workers: int) -> bytes:
    vocab(Params.load(Path("params.yaml")), Path(f"{out}/corpus"), Path(f"{out}/encoded"), null_report, workers)
    return (Path(out) / "encoded/manifest.json").read_bytes()


def _texts(count: int) -> list[str]:
    """Random texts with exact and near duplicates far apart, and some texts that are too short."""
    generator = np.random.default_rng(1)
    alphabet = np.array(list("abcdefghijklmnopqrstuvwxyz   é🙂"))
    texts = ["".join(generator.choice(alphabet, generator.integers(40, 120))).strip() for _ in range(count)]
    for index in range(0, count // 4, 5):
        texts[count - 1 - index] = texts[index]
        texts[count // 2 + index] = texts[index + 1] + "."
    return ["x" if index % 50 == 49 else text for index, text in enumerate(texts)]


def _write(texts: list[str]) -> list[str]:
    rows = [
        {
            "text": text,
            "key": f"k{index % 990}",
            "who": f"a{index % 7}",
            "e": [{"start": 0, "end": 1, "label": "P"}] if index % 3 else [],
        }
        for index, text in enumerate(texts)
    ]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:600]) + "{\n")
    with Path("b.csv").open("w") as stream:
        stream.write("text,key,who,e\n")
        stream.writelines(f'"{row["text"]}\n",{row["key"]},{row["who"]},\n' for row in rows[600:700])
    pq.write_table(pa.Table.from_pylist(rows[700:]), "c.parquet", row_group_size=64)
    return ["a.jsonl", "b.csv", "c.parquet"]


@pytest.mark.parametrize(("duplicates", "workers"), [(None, 3), ("exact", 2), ("near", 3)])
def test_the_number_of_workers_does_not_change_the_output(duplicates: str | None, workers: int) -> None:
    source = {
        "kind": "files",
        "paths": _write(_texts(1000)),
        "columns": {"id": "key", "author": "who", "entities": "e"},
    }
    section = {
        "source": source,
        **SHARES,
        "duplicates": duplicates,
        "filters": [{"filter": "length", "min_characters": 2}],
    }
    section["transforms"] = ["strip"]
    assert _ingest(section, "many", workers) == _ingest(section, "one", 1)
    if duplicates is None:  # encoding does not depend on it
        assert _encode("many", workers) == _encode("one", 1)
        corpus = EncodedCorpus.open(Path("many/encoded"))
        texts = [record.text for record in read_records(Path("many/corpus"), "train")]
        assert corpus.preprocessor.decode(corpus.split("train").ids) == "".join(texts)
    reasons = read_json(Path("many/corpus/metrics.json"))["quarantined"]["reasons"]
    assert reasons["not JSON"] == 1 and reasons["shorter than 2 characters"] == 20 and reasons["duplicate id"] == 9
    assert reasons.get("duplicate text", 0) == (44 if duplicates == "exact" else 0)
    assert reasons.get("near duplicate", 0) >= (90 if duplicates == "near" else 0)


def test_line_numbers_count_from_the_start_of_the_file() -> None:
    texts = [f"line {number} é" for number in range(1, 2001)]
    Path("a.txt").write_text("\ufeff" + "\r\n".join(texts) + "\r\n" + "y" * 9000 + "\n\nthe last")
    _ingest({"source": {"kind": "files", "paths": ["a.txt"]}, **SHARES}, "out", 2)
    by_id = {record.id: record.text for record in read_records(Path("out/corpus"))}
    assert len(by_id) == 2002
    assert all(by_id[f"a.txt:{number}"] == f"line {number} é" for number in range(1, 2001))
    assert by_id["a.txt:2001"] == "y" * 9000 and by_id["a.txt:2003"] == "the last"


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_a_text_is_in_one_split_only_and_its_first_record_is_kept(kind: str) -> None:
    texts = _texts(800)
    Path("a.txt").write_text("\n".join(texts) + "\n")
    section = {"source": {"kind": "files", "paths": ["a.txt"]}, **SHARES}
    _ingest(section, "all", 1)
    records = list(read_records(Path("all/corpus")))
    train = {record.text for record in records if record.split == "train"}
    assert any(record.text in train for record in records if record.split != "train"), "no duplicates across splits"
    _ingest({**section, "duplicates": {"kind": kind, "min_characters": 2}}, "distinct", 1)
    kept = [record for record in read_records(Path("distinct/corpus")) if len(record.text) > 1]
    assert len({record.text for record in kept}) == len(kept)
    first = {text: f"a.txt:{index}" for index, text in reversed(list(enumerate(texts, start=1)))}
    assert all(record.id == first[record.text] for record in kept)
    rows = [json.loads(line) for line in Path("distinct/corpus/quarantine.jsonl").read_text().splitlines()]
    assert [row["line"] for row in rows] == sorted(row["line"] for row in rows)
    for row in rows:
        original = texts[int(row["duplicate_of"].removeprefix("a.txt:")) - 1]
        assert int(row["duplicate_of"].removeprefix("a.txt:")) < row["line"]
        assert original.rstrip(".") == texts[row["line"] - 1].rstrip(".")
    # Texts that are too short to count as duplicates are all kept.
    assert sum(record.text == "x" for record in read_records(Path("distinct/corpus"))) == texts.count("x")


def test_a_text_is_kept_if_its_first_record_was_rejected_for_a_duplicate_id() -> None:
    rows = [{"text": f"text {index}", "key": f"k{index}"} for index in range(100)]
    rows += [{"text": "only here", "key": "k1"}, {"text": "only here", "key": "new"}]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"kind": "files", "paths": ["a.jsonl"], "columns": {"id": "key"}}
    _ingest({"source": source, **SHARES, "duplicates": "exact"}, "out", 1)
    assert [record.id for record in read_records(Path("out/corpus")) if record.text == "only here"] == ["new"]
    (row,) = map(json.loads, Path("out/corpus/quarantine.jsonl").read_text().splitlines())
    assert (row["reason"], row["line"], row["duplicate_of"]) == ("duplicate id", 101, "a.jsonl:2")


def test_user_functions_run_in_every_worker() -> None:
    Path("my_cleaning.py").write_text("def keep(text): return 'q' not in text\ndef clean(text): return text.lower()\n")
    Path("a.txt").write_text("".join(f"LINE {number} {'Q' if number % 4 == 0 else ''}\n" for number in range(2000)))
    section = {"source": {"kind": "files", "paths": ["a.txt"]}, **SHARES}
    section["transforms"] = [{"transform": "function", "name": "my_cleaning:clean"}]
    section["filters"] = [{"filter": "function", "name": "my_cleaning:keep"}]
    assert _ingest(section, "two", 2) == _ingest(section, "one", 1)
    metrics = read_json(Path("two/corpus/metrics.json"))
    assert metrics["quarantined"]["reasons"] == {"not kept by my_cleaning:keep": 500}
    assert all(record.text.startswith("line ") for record in read_records(Path("two/corpus")))
