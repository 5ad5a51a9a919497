"""Several sources in one corpus: names in ids and groups, splits per source, and weights."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cclm_core.corpus.records import Record, read_records
from cclm_core.ingest.config import IngestConfig
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.ingest import ingest
from cclm_core.steps.params import Params

OUT = Path("data/corpus")


@pytest.fixture(autouse=True)
def _two_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"body": f"play {number}", "key": str(number), "play": f"p{number % 10}"} for number in range(200)]
    Path("plays.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("letters.txt").write_text("".join(f"letter {number}\n" for number in range(300)))


def _source(name: str, **settings: Any) -> dict[str, Any]:
    plays = {"kind": "files", "paths": "plays.jsonl", "columns": {"text": "body", "id": "key", "group": "play"}}
    letters = {"kind": "files", "paths": "letters.txt"}
    return {"name": name, "source": {"plays": plays, "letters": letters}[name], **settings}


def _ingest(*sources: dict[str, Any], out: Path = OUT, seed: int = 1, **settings: Any) -> dict[str, Any]:
    Path("params.yaml").write_text(json.dumps({"seed": seed, "ingest": {"sources": sources, **settings}}))
    ingest(Params.load(Path("params.yaml")), Path("downloads"), out, null_report)
    metrics: dict[str, Any] = read_json(out / "metrics.json")
    return metrics


PLAYS = _source("plays", validation_groups="p1", test_groups=["p2", "p3"])


def _by_source(records: list[Record]) -> Counter[str]:
    return Counter(record.id.partition("/")[0] for record in records)


def test_each_source_has_its_own_splits_and_every_document_its_source() -> None:
    metrics = _ingest(PLAYS, _source("letters", validation_share=0.1))
    splits = {split: list(read_records(OUT, split)) for split in ("train", "validation", "test")}
    assert _by_source(splits["test"]) == {"plays": 40}
    assert {record.group for record in splits["test"]} == {"plays/p2", "plays/p3"}
    validation = _by_source(splits["validation"])
    assert validation["plays"] == 20 and 15 < validation["letters"] < 50
    assert _by_source(splits["train"]) == {"plays": 140, "letters": 300 - validation["letters"]}
    assert next(record for record in splits["train"] if record.text == "play 4").id == "plays/4"
    letter = next(record for record in splits["train"] if record.text.startswith("letter"))
    assert letter.id.startswith("letters/letters.txt:") and letter.group is None
    described = read_json(OUT / "source.json")
    assert [(source["name"], source["weight"], source["source"]["kind"]) for source in described["sources"]] == [
        ("plays", 1, "files"),
        ("letters", 1, "files"),
    ]
    assert metrics["records"] == 500


def test_the_splits_of_a_source_do_not_depend_on_the_others() -> None:
    _ingest(PLAYS, _source("letters", validation_share=0.1))
    both = {record.id: record.split for split in ("train", "validation") for record in read_records(OUT, split)}
    other = _source("letters", validation_share=0.1, test_share=0.2)
    _ingest(other, PLAYS | {"weight": 2}, out=Path("data/other"))
    again = {record.id: record.split for record in read_records(Path("data/other"), "validation")}
    assert {name for name, split in both.items() if split == "validation"} == set(again)


@pytest.mark.parametrize(("weight", "expected"), [(0.25, 65), (1, 260), (1.5, 390), (3, 780)])
def test_weights_repeat_and_leave_out_training_records_only(weight: float, expected: int) -> None:
    letters = _source("letters", validation_share=0.1, weight=weight)
    metrics = _ingest(PLAYS, letters)
    train = list(read_records(OUT, "train"))
    number = _by_source(train)["letters"]
    assert abs(number - expected) < 40 and _by_source(train)["plays"] == 140
    assert len({record.id for record in train}) == len(train), "ids must be unique"
    texts = Counter(record.text for record in train if record.text.startswith("letter"))
    assert set(texts.values()) <= {int(weight), int(weight) + 1} - {0}
    if weight == 3:
        copies = sorted(record.id for record in train if record.text == next(iter(texts)))
        assert copies[1:] == [f"{copies[0]}#2", f"{copies[0]}#3"]
    held_out = Counter(record.text for record in read_records(OUT, "validation"))
    assert set(held_out.values()) == {1}
    assert metrics["splits"]["train"]["records"] == len(train)


def test_the_same_parameters_give_the_same_bytes_and_another_seed_other_records() -> None:
    letters = _source("letters", validation_share=0.1, weight=0.5)
    _ingest(PLAYS, letters)
    _ingest(PLAYS, letters, out=Path("data/again"))
    _ingest(PLAYS, letters, out=Path("data/other"), seed=2)
    first, again, other = (folder / "train-00000.parquet" for folder in (OUT, Path("data/again"), Path("data/other")))
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_a_single_source_of_weight_1_has_the_texts_of_the_key_source() -> None:
    _ingest(PLAYS)
    single = {**PLAYS["source"]}
    section = {"source": single, "validation_groups": "p1", "test_groups": ["p2", "p3"]}
    Path("params.yaml").write_text(json.dumps({"seed": 1, "ingest": section}))
    ingest(Params.load(Path("params.yaml")), Path("downloads"), Path("data/single"), null_report)
    for split in ("train", "validation", "test"):
        texts = [record.text for record in read_records(OUT, split)]
        assert texts == [record.text for record in read_records(Path("data/single"), split)]


def test_duplicates_are_removed_across_sources_and_copies_are_kept() -> None:
    with Path("letters.txt").open("a") as stream:
        stream.write("play 4\n")
    metrics = _ingest(PLAYS, _source("letters", validation_share=0.1, weight=2.0), duplicates="exact")
    assert metrics["quarantined"]["reasons"] == {"duplicate text": 1}
    quarantine = [json.loads(line) for line in (OUT / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["file"], row["duplicate_of"]) for row in quarantine] == [("letters.txt", "plays.jsonl:5")]
    texts = Counter(record.text for record in read_records(OUT, "train"))
    assert texts["play 4"] == 1 and set(texts.values()) == {1, 2}


def test_a_missing_group_and_an_empty_split_are_errors() -> None:
    with pytest.raises(DataError, match=r"validation_groups: group 'plays/p11' not found\. Did you mean `plays/p1`"):
        _ingest(_source("plays", validation_groups="p11", test_share=0.2), _source("letters"))
    with pytest.raises(DataError, match="split test got none of 500 records"):
        _ingest(_source("plays", validation_groups="p1"), _source("letters"))
    assert not OUT.exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "set exactly one of `source` and `sources`"),
        ({"source": PLAYS["source"], "sources": [PLAYS]}, "set exactly one of `source` and `sources`"),
        ({"sources": [PLAYS], "test_share": 0.1}, "set `test_groups` or `test_share` of each source instead"),
        ({"sources": [PLAYS, {**PLAYS, "name": "Plays"}]}, "the names of `sources` must differ, got 'plays' twice"),
        ({"sources": [{**PLAYS, "weight": 0}]}, r"ingest: sources\.0\.weight must be greater than 0, got 0"),
        ({"sources": [{**PLAYS, "name": "a/b"}]}, r"ingest: sources\.0\.name: String should match pattern"),
        ({"sources": [{**PLAYS, "wieght": 2}]}, "did you mean 'weight'"),
        ({"sources": [{**PLAYS, "test_share": 0.1}]}, "set exactly one of `test_groups` and `test_share`"),
        ({"sources": [{**PLAYS, "source": {"kind": "fiels"}}]}, "did you mean 'files'"),
    ],
)
def test_invalid_sections_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IngestConfig.parse(section, "params.yaml: ingest")
