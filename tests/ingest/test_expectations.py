"""Expectations on incoming data: measures, bounds, actions, and what the stage `ingest` does with them."""

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cclm_core.corpus.records import read_records
from cclm_core.ingest import trigrams
from cclm_core.ingest.config import IngestConfig
from cclm_core.ingest.expectations import MET, NOT_COMPARED, NOT_MET, TOO_FEW, check
from cclm_core.ingest.measures import total_variation
from cclm_core.ingest.profile import ACCEPTED, PROFILE, Accepted, Profile, Unit
from cclm_core.ingest.trigrams import TrigramModel, TrigramSample, keys_of
from cclm_core.runtime.artifacts import folder_digest, read_json, verify, write_json
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.ingest import Contract, ingest
from cclm_core.steps.params import Params

OUT, CONTRACT = Path("data/corpus"), Contract(Path("contract"), Path("data/checks"), Path(".cclm/refused"))
WORDS = ["the", "order", "did", "not", "arrive", "please", "send", "my", "money", "back", "card", "was", "lost"]
BITS = {"expectation": "bits", "min_texts": 100}
CYRILLIC = ["заказ", "не", "пришёл", "верните", "деньги", "карта", "потеряна", "снова"]


@pytest.fixture(autouse=True)
def _in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("contract").mkdir()


def tickets(number: int, words: list[str] = WORDS, labels: tuple[str, ...] = ("order", "card"), seed: int = 1) -> str:
    """JSON lines with a text of eight words and a label each."""
    draw = random.Random(seed)
    rows = [{"text": " ".join(draw.choices(words, k=8)), "label": draw.choice(labels)} for _ in range(number)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def run(expectations: list[Any], **settings: Any) -> list[dict[str, Any]]:
    """Ingests a.jsonl and b.jsonl, if it exists; returns the checks."""
    paths = [name for name in ("a.jsonl", "b.jsonl") if Path(name).exists()]
    section = {
        "source": {"kind": "files", "paths": paths, "columns": {"label": "label"}},
        "validation_share": 0.2,
        "test_share": 0.2,
        "expectations": expectations,
        **settings,
    }
    Path("params.yaml").write_text(json.dumps({"seed": 1, "ingest": section}))
    ingest(Params.load(Path("params.yaml")), Path("downloads"), OUT, null_report, 1, CONTRACT)
    verify(CONTRACT.checks, "checks")
    checks: list[dict[str, Any]] = read_json(CONTRACT.checks / "metrics.json")["checks"]
    return checks


def accept(alphabet: str | None = None) -> None:
    """Accepts the data of the last run."""
    write_json(CONTRACT.accepted / ACCEPTED, read_json(CONTRACT.checks / PROFILE) | {"alphabet": alphabet})


def test_the_first_run_says_that_there_is_nothing_to_compare_with(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.jsonl").write_text(tickets(300))
    checks = run(["labels", "bytes", {"expectation": "texts", "min": 100}, {"expectation": "rejected", "max": 0.1}])
    assert [row["state"] for row in checks] == [NOT_COMPARED] * 4
    assert "ingest.expectations.labels: the source: " in capsys.readouterr().err
    assert "no data have been accepted yet; `cclm data accept`" in checks[0]["message"]
    checks = run([{"expectation": "texts", "min": 100, "max_change": None}, {"expectation": "texts", "min": 301}])
    assert [row["state"] for row in checks] == [MET, NOT_MET]  # an absolute bound needs no accepted data


def test_equal_data_meet_every_expectation_and_checks_do_not_change_the_corpus() -> None:
    every: list[Any] = ["texts", "length", "rejected", "duplicates", "bytes", "alphabet", "characters", BITS, "labels"]
    Path("a.jsonl").write_text(tickets(300))
    run([], duplicates="exact")
    before = folder_digest(OUT), folder_digest(CONTRACT.checks)
    run([], duplicates="exact")
    assert (folder_digest(OUT), folder_digest(CONTRACT.checks)) == before
    accept("abcdefghijklmnopqrstuvwxyz ")
    checks = run(every, duplicates="exact")
    assert [row["state"] for row in checks] == [MET] * 9, checks
    assert folder_digest(OUT) == before[0]
    # Another sample of the same texts is no drift.
    Path("a.jsonl").write_text(tickets(300, seed=2))
    assert {row["state"] for row in run(every, duplicates="exact")} == {MET}


def test_changed_data_are_named_with_value_bound_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.jsonl").write_text(tickets(300))
    run([])
    accept("abcdefghijklmnopqrstuvwxyz ")
    Path("a.jsonl").write_text(tickets(240) + tickets(60, CYRILLIC, ("refund",)) + "{\n" * 30)
    checks = {
        row["expectation"]: row
        for row in run(["bytes", "alphabet", "characters", "labels", "rejected", "texts", "length"])
    }
    states = {name: row["state"] for name, row in checks.items()}
    assert states.pop("texts") == states.pop("length") == MET
    assert set(states.values()) == {NOT_MET}
    assert checks["labels"]["value"] == pytest.approx(0.2, abs=0.01)
    assert checks["rejected"]["value"] == pytest.approx(30 / 330, abs=1e-6)
    assert "refund: 20.00%, accepted 0.00%" in checks["labels"]["message"]
    assert "may differ by at most 5 percentage points from 0.000% in the accepted data" in checks["rejected"]["message"]
    assert "must be at most 0.100%. Examples: a.jsonl:241  " in checks["alphabet"]["message"]
    assert "U+04" in checks["bytes"]["message"]
    errors = capsys.readouterr().err
    assert errors.count("ingest: warning: ingest.expectations.") == 5
    rows = {row["measure"]: row for row in read_json(CONTRACT.checks / "metrics.json")["differences"]["source"]}
    assert rows["texts"] == {"measure": "texts", "kind": "count", "now": 300, "accepted": 300}
    assert rows["distance between the shares of labels"]["now"] == checks["labels"]["value"]


def test_bits_notice_what_the_frequencies_of_characters_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.jsonl").write_text(tickets(400))
    assert [row["state"] for row in run([BITS])] == [NOT_COMPARED]
    accept()
    accepted = Path("contract/accepted.json")
    assert accepted.stat().st_size < 20_000 and '["the",' in accepted.read_text()
    (same,) = run([BITS])
    assert same["state"] == MET and same["value"] == same["accepted"] < 3
    # The same letters in another order: reversed words.
    Path("a.jsonl").write_text(tickets(350) + tickets(50, [word[::-1] for word in WORDS], seed=2))
    checks = {row["expectation"]: row for row in run(["characters", "alphabet", "labels", BITS])}
    assert {name for name, row in checks.items() if row["state"] == NOT_MET} == {"bits"}
    assert "may differ by at most 0.2 from" in checks["bits"]["message"]
    shown = r"Examples: a\.jsonl:3\d\d .*(yenom|redro|esaelp|evirra).* \(1\d\.\d bits per character\)"
    assert re.search(shown, checks["bits"]["message"])
    assert capsys.readouterr().err.count("ingest: warning: ingest.expectations") == 1
    stored = json.loads(accepted.read_text())
    stored["sources"]["source"]["trigrams"][0] = ["four", 1]
    write_json(accepted, stored)
    with pytest.raises(ArtifactError, match=r"'four': 1 must be three characters with their count"):
        run([BITS])
    for key in ("trigrams", "bits"):  # accepted by an earlier version
        del stored["sources"]["source"][key]
    write_json(accepted, stored)
    (old,) = run([BITS])
    assert old["state"] == NOT_COMPARED and "run `cclm data accept`" in old["message"]


def test_a_sample_of_trigrams_is_bounded_and_does_not_depend_on_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigrams, "MAX_SAMPLE", 4_000)
    draw = random.Random(3)
    texts = [" ".join(draw.choices(WORDS, k=8)) for _ in range(600)]
    results = []
    for order in (texts, texts[::-1]):
        sample = TrigramSample(None, is_counted=True)
        for start in range(0, len(order), 50):
            sample.add(order[start : start + 50])
        results.append(sample.counts())
    assert results[0][0] == results[1][0] and results[0][1] == pytest.approx(results[1][1])
    assert 500 < results[0][0].total() < 4_000
    assert keys_of(["ab", "", "c"])[1].tolist() == [0, 0, 2]
    model = TrigramModel({"abc": 9, "abd": 1})
    likely, other, unseen = model.bits(keys_of(["abc", "abd", "ab\u2603"])[0])[[2, 5, 8]]
    assert likely < 1 < other < unseen
    total = sum(2 ** -float(model.bits(keys_of([f"ab{chr(code)}"])[0])[2]) for code in range(32, 256))
    assert 0.9 < total < 1.001  # the rest is that of all other characters


def test_stop_keeps_the_former_corpus_and_publishes_what_was_refused() -> None:
    Path("a.jsonl").write_text(tickets(300))
    run([])
    accept()
    before = folder_digest(OUT), folder_digest(CONTRACT.checks)
    Path("a.jsonl").write_text(tickets(300, CYRILLIC))
    stop = [{"expectation": "alphabet", "action": "stop"}, {"expectation": "characters", "action": "stop"}]
    with pytest.raises(DataError, match="do not meet 2 expectations, so the former corpus is kept") as raised:
        run(stop)
    assert "`cclm data accept --refused`" in str(raised.value) and "a.jsonl:1  " in str(raised.value)
    assert (folder_digest(OUT), folder_digest(CONTRACT.checks)) == before
    verify(CONTRACT.refused, "checks")
    write_json(CONTRACT.accepted / ACCEPTED, read_json(CONTRACT.refused / PROFILE) | {"alphabet": None})
    assert {row["state"] for row in run(stop)} == {MET}
    assert not CONTRACT.refused.exists() and folder_digest(OUT) != before[0]


def test_quarantine_leaves_out_the_file_and_the_run_goes_on() -> None:
    Path("a.jsonl").write_text(tickets(300))
    run([])
    accept()
    only_a = folder_digest(OUT)
    Path("b.jsonl").write_text(tickets(150, CYRILLIC))
    checks = run([{"expectation": "alphabet", "action": "quarantine", "by": "file"}])
    assert [(row["file"], row["state"]) for row in checks] == [("a.jsonl", MET), ("b.jsonl", NOT_MET)]
    assert {record.text[0].isascii() for record in read_records(OUT)} == {True}
    metrics = read_json(OUT / "metrics.json")
    reason = "expectation alphabet of its file not met"
    assert metrics["records"] == 300 and metrics["quarantined"]["reasons"] == {reason: 150}
    assert read_json(CONTRACT.checks / "refused" / PROFILE)["sources"]["source"]["texts"] == 450
    assert read_json(CONTRACT.checks / PROFILE)["sources"]["source"]["texts"] == 300
    first = folder_digest(OUT)
    run([{"expectation": "alphabet", "action": "quarantine", "by": "file"}])
    assert folder_digest(OUT) == first != only_a
    with pytest.raises(DataError, match=r"no usable record.*300 x expectation labels of its source not met"):
        Path("b.jsonl").unlink()
        Path("a.jsonl").write_text(tickets(300, labels=("refund",)))
        run([{"expectation": "labels", "action": "quarantine"}])


def test_sources_are_checked_by_name_and_a_missing_one_is_noticed() -> None:
    def sources(*names: str) -> dict[str, Any]:
        held_out = {"validation_share": 0.2, "test_share": 0.2}
        members = [
            {"name": name, "source": {"kind": "files", "paths": f"{name}.jsonl", "columns": {}}, **held_out}
            for name in names
        ]
        return {"source": None, "sources": members, "validation_share": None, "test_share": None}

    Path("a.jsonl").write_text(tickets(300))
    Path("b.jsonl").write_text(tickets(200, CYRILLIC))
    run([], **sources("a", "b"))
    accept()
    Path("b.jsonl").write_text(tickets(200))
    checks = run(["characters", "alphabet"], **sources("a", "b"))
    found = [(row["expectation"], row["source"], row["state"]) for row in checks]
    assert found[:2] == [("characters", "a", MET), ("characters", "b", NOT_MET)]
    assert found[2:] == [("alphabet", "a", MET), ("alphabet", "b", MET)]  # characters of another source are known
    checks = run(["texts"], **sources("a"))
    assert [(row["source"], row["state"], row["value"]) for row in checks] == [("a", MET, 300), ("b", NOT_MET, 0)]


def test_few_texts_are_not_checked() -> None:
    contract = Accepted({"source": Profile(texts=5, labels=Counter(a=5))}, None)
    section = {"source": {"kind": "files", "paths": "a"}, "validation_share": 0.1, "test_share": 0.1}
    config = IngestConfig.parse(section | {"expectations": ["labels"]}, "ingest")
    profiles = {Unit("source"): Profile(texts=99, labels=Counter(b=99))}
    assert [item.state for item in check(config.expectations, profiles, contract)] == [TOO_FEW]
    assert total_variation({}, {}) == 0 and total_variation({"a": 1}, {"b": 5}) == 1


@pytest.mark.parametrize(
    ("expectations", "message"),
    [
        (["lables"], "expectation.*labels"),
        ([{"expectation": "length", "quantile": 0.3}], "quantile.*must be one of 0.01"),
        (["duplicates"], "needs `duplicates`, which looks for them"),
        ([{"expectation": "labels", "action": "delete"}], "action"),
        ([{"expectation": "labels", "max": 2}], "max"),
    ],
)
def test_invalid_expectations_are_refused(expectations: list[Any], message: str) -> None:
    Path("a.jsonl").write_text(tickets(10))
    with pytest.raises(ConfigError, match=message):
        run(expectations)


def test_expectations_without_a_contract_are_refused_and_a_damaged_profile_is_named() -> None:
    Path("a.jsonl").write_text(tickets(300))
    run([])
    (CONTRACT.accepted / ACCEPTED).write_text('{"format": "cclm-profile-1"}')
    with pytest.raises(ArtifactError, match=r"contract/accepted.json is damaged"):
        run([])
    Path("params.yaml").write_text(
        Path("params.yaml").read_text().replace('"expectations": []', '"expectations": ["labels"]')
    )
    with pytest.raises(ConfigError, match="need the folder of the accepted data"):
        ingest(Params.load(Path("params.yaml")), Path("downloads"), OUT, null_report, 1)
