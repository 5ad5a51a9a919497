"""`cclm init`: what it recognizes, what it writes, what it refuses; and the path from a file to predictions."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from cclm_core.cli.app import app
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.steps.params import Params

TOPICS = {"card": "my card", "parcel": "the parcel", "refund": "a refund"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone in which nothing was changed, as the working directory."""
    root = tmp_path / "clone"
    root.mkdir()
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "params.yaml").write_text("seed: 1\n")
    for command in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "new"),
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    monkeypatch.chdir(root)
    return root


def tickets(number: int = 120, header: str = "body,topic") -> str:
    rows = [f"where is {text} number {index},{topic}" for index in range(number) for topic, text in TOPICS.items()]
    return "\n".join([header, *rows[:number]]) + "\n"


def init(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["init", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def params(root: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    Params(values).check()
    return values


def source_of(root: Path, name: str) -> dict[str, Any]:
    source: dict[str, Any] = params(root)["labeled"][name]["source"]
    return source


def test_a_table_becomes_a_corpus_a_labeled_set_and_two_tasks(project: Path, tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text(tickets())
    output = init(tmp_path / "tickets.csv").output
    values = params(project)
    assert values["ingest"]["source"]["columns"] == {"text": "body", "label": "topic"}
    entry = values["labeled"]["tickets"]
    assert entry["task"] == "classify" and entry["test"] == {"share": 0.2} and entry["validation"] == {"share": 0.1}
    assert values["tasks"]["tickets"] == {"data": "tickets", "composition": "full"}
    assert values["tasks"]["tickets_scratch"]["embedder"] == values["base"]["embedder"]
    assert values["base"]["training"] == {"steps": 600, "batch_size": 16, "window": 256, "threads": 2}
    assert {probe["probe"] for probe in values["evaluation"]["probes"]} == {"characters", "labels"}
    assert (project / "input/tickets.csv").read_text() == tickets() == (tmp_path / "tickets.csv").read_text()
    assert "task tickets: classify" in output and re.search(r"texts +84 +12 +24", output)
    assert not re.search("play|shakespeare", (project / "params.yaml").read_text(), re.I)


def test_it_can_be_repeated_but_does_not_replace_changes(project: Path, tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text(tickets())
    init(tmp_path / "tickets.csv")
    init(tmp_path / "tickets.csv")
    edited = (project / "params.yaml").read_text() + "# mine\n"
    (project / "params.yaml").write_text(edited)
    with pytest.raises(ConfigError, match=r"params.yaml has changes .*--force"):
        init(tmp_path / "tickets.csv")
    assert (project / "params.yaml").read_text() == edited
    (tmp_path / "tickets.csv").write_text(tickets(90))
    assert "The former params.yaml is" in init(tmp_path / "tickets.csv", "--force").output
    kept = {path.name: path.read_text() for path in (project / ".cclm/replaced").glob("*/*")}
    assert kept == {"params.yaml": edited, "tickets.csv": tickets()}
    assert (project / "input/tickets.csv").read_text() == tickets(90)


def test_a_file_of_the_same_name_with_other_content_is_not_replaced(project: Path, tmp_path: Path) -> None:
    (project / "input").mkdir()
    (project / "input/tickets.csv").write_text("text,label\nmine,a\n")
    (tmp_path / "tickets.csv").write_text(tickets())
    with pytest.raises(DataError, match=r"input/tickets.csv exists and differs"):
        init(tmp_path / "tickets.csv")
    assert (project / "input/tickets.csv").read_text() == "text,label\nmine,a\n"
    assert (project / "params.yaml").read_text() == "seed: 1\n"


def test_a_failure_leaves_nothing_behind(project: Path, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("text,label\nhello,a\nthere,b\nyou,a\nthere is,b\n")
    with pytest.raises(DataError):
        init(tmp_path / "few.csv", "--label", "label")
    assert not (project / "input/few.csv").exists() and (project / "params.yaml").read_text() == "seed: 1\n"


def test_a_semicolon_file_in_latin_letters_without_a_header(project: Path, tmp_path: Path) -> None:
    text = tickets().replace("where", "où").replace(",", ";").partition("\n")[2]
    (tmp_path / "tickets.csv").write_bytes(text.encode("cp1252"))
    output = init(tmp_path / "tickets.csv", "--text", "1", "--label", "2").output
    expected = {"encoding": "cp1252", "delimiter": ";", "header": ["column_1", "column_2"]}
    source = source_of(project, "tickets")
    assert {key: source[key] for key in expected} == expected
    assert source["columns"] == {"text": "column_1", "label": "column_2"}
    assert "read as cp1252, for example 'où'" in output and "no header" in output


def test_a_given_test_file_and_one_found_by_its_name(project: Path, tmp_path: Path) -> None:
    for name, number in (("train.csv", 120), ("dev.csv", 30), ("held.csv", 60)):
        (tmp_path / name).write_text(tickets(number).replace("where", f"{name} where"))
    output = init(
        tmp_path / "train.csv", tmp_path / "dev.csv", "--test", tmp_path / "held.csv", "--name", "mail"
    ).output
    entry = params(project)["labeled"]["mail"]
    assert entry["source"]["paths"] == ["input/train.csv"]
    assert entry["test"] == {"paths": ["input/held.csv"]} and entry["validation"] == {"paths": ["input/dev.csv"]}
    assert "is the validation split, by its name" in output
    assert params(project)["ingest"]["source"]["paths"] == ["input/train.csv"]


@pytest.mark.usefixtures("project")
def test_leaked_and_repeated_texts_and_bad_rows_are_shown_with_lines(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(tickets() + "too,many,cells\n" * 2)
    (tmp_path / "held.csv").write_text(tickets(30))
    output = init(tmp_path / "train.csv", "--test", tmp_path / "held.csv", "--name", "mail").output
    assert "input/train.csv:122" in output and "2 columns expected" in output
    assert re.search(r"texts of train that are also in test: \d+ of \d+, such as input/train.csv:\d+", output)


@pytest.mark.parametrize(
    ("rows", "arguments", "task", "columns"),
    [
        (
            lambda n: {"text": f"it is {n} days late", "tags": ["late", "old"][: 1 + n % 2]},
            (), "multilabel", {"labels": "tags"},
        ),
        (
            lambda n: {"text": f"it is {n} days late", "tags": ["late;old", "late", "old"][n % 3]},
            (), "multilabel", {"labels": "tags"},
        ),
        (lambda n: {"text": f"it took {n} days", "days": n * 1.5}, ("--label", "days"), "regress", {"value": "days"}),
        (lambda n: {"text": f"it took {n} days", "score": n % 5}, (), "classify", {"label": "score"}),
        (lambda n: {"text": f"it took {n} days", "score": n % 5}, ("--task", "regress"), "regress", {"value": "score"}),
        (
            lambda n: {"sentence1": f"it is {n}", "sentence2": f"it was {n}", "same": ["yes", "no"][n % 2]},
            (), "classify", {"text": "sentence1", "second": "sentence2", "label": "same"},
        ),
        (
            lambda n: {"text": f"number {n} is here", "late": n % 2, "lost": 1 - n % 2, "old": n % 2},
            (), "multilabel", {"labels": ["late", "lost", "old"]},
        ),
        (
            lambda n: {"tokens": ["in", "Rome", str(n)], "ner_tags": ["O", "B-LOC", "O"]},
            (), "tag", {"tokens": "tokens", "tags": "ner_tags"},
        ),
        (
            lambda n: {"text": f"in Rome {n}", "spans": [{"start": 3, "end": 7, "label": "LOC"}]},
            (), "tag", {"text": "text", "entities": "spans"},
        ),
        (
            lambda n: {"tokens": ["in", "Rome", str(n)], "ner_tags": [0, 1, 0]},
            ("--tag-names", "O,B-LOC"), "tag", {"tokens": "tokens", "tags": "ner_tags"},
        ),
    ],
    ids=["lists", "separators", "numbers", "ratings", "asked", "pairs", "indicators", "tokens", "spans", "tag-numbers"],
)  # fmt: skip
def test_the_task_follows_from_the_columns(
    project: Path, tmp_path: Path, rows: Any, arguments: tuple[str, ...], task: str, columns: dict[str, Any]
) -> None:
    lines = "".join(json.dumps(rows(number)) + "\n" for number in range(150))
    (tmp_path / "data.jsonl").write_text(lines)
    init(tmp_path / "data.jsonl", "--name", "own", *arguments)
    entry = params(project)["labeled"]["own"]
    assert entry["task"] == task
    assert columns.items() <= entry["source"]["columns"].items()


def test_the_corpus_has_both_texts_of_pairs(project: Path, tmp_path: Path) -> None:
    rows = [{"sentence1": f"it is {n}", "sentence2": f"it was {n}", "same": ["yes", "no"][n % 2]} for n in range(150)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    init(tmp_path / "pairs.jsonl")
    assert params(project)["ingest"]["source"]["paths"] == ["input/pairs_texts.txt"]
    lines = (project / "input/pairs_texts.txt").read_text().splitlines()
    assert len(lines) == 240 and {" ".join(line.split()[:2]) for line in lines} == {"it is", "it was"}


def test_shards_of_a_folder_are_splits_and_the_folder_is_the_name(project: Path, tmp_path: Path) -> None:
    (tmp_path / "intents" / "data").mkdir(parents=True)
    for split, start in (("train", 0), ("test", 200)):
        lines = [{"text": f"where is number {n}", "topic": "abc"[n % 3]} for n in range(start, start + 120)]
        path = tmp_path / "intents" / "data" / f"{split}-00000-of-00001.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    init(tmp_path / "intents")
    assert "paths" in params(project)["labeled"]["intents"]["test"]


def test_a_folder_of_save_to_disk_is_refused_with_a_remedy(project: Path, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text("{}")
    with pytest.raises(DataError, match="was written by `save_to_disk`"):
        init(tmp_path / "saved")
    assert (project / "params.yaml").read_text() == "seed: 1\n"


def test_conll_under_an_unknown_suffix_and_bare_tags(project: Path, tmp_path: Path) -> None:
    sentences = [f"in O\nRome LOC\n{number} O\n\n" for number in range(120)]
    (tmp_path / "names.annotated").write_text("".join(sentences))
    with pytest.raises(DataError, match=r"which has no labels|no column of tags"):
        init(tmp_path / "names.annotated", "--tags", "1")
    (tmp_path / "names.conll").write_text("".join(sentences))
    init(tmp_path / "names.conll")
    values = params(project)
    assert values["labeled"]["names"]["tag_scheme"] == "io" and "tag_scheme" not in values["labeled"]["names"]["source"]
    assert values["ingest"]["source"]["tag_scheme"] == "io"
    assert values["compositions"]["full"]["parts"] == ["masked_characters", "entities"]
    assert "entity_f1_clean" in values["promotion"]["metrics"]


def test_a_folder_of_texts_is_a_corpus_without_a_task(project: Path, tmp_path: Path) -> None:
    (tmp_path / "chat").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "chat" / name).write_text("".join(f"{name} line {number}\n" for number in range(60)))
    init(tmp_path / "chat")
    values = params(project)
    assert values["ingest"]["source"]["paths"] == ["input/chat/a.txt", "input/chat/b.txt"]
    assert values["labeled"] == {} and values["tasks"] == {}


def test_few_groups_are_named_so_that_no_split_is_empty(project: Path, tmp_path: Path) -> None:
    rows = "".join(f"where is item {number},{'ab'[number % 2]},g{number % 4}\n" for number in range(120))
    (tmp_path / "mail.csv").write_text("text,label,thread\n" + rows)
    init(tmp_path / "mail.csv", "--group", "thread")
    values = params(project)
    held_out = values["ingest"]["test_groups"], values["ingest"]["validation_groups"]
    assert held_out == (["g0"], ["g1"])
    assert values["labeled"]["mail"]["test"] == {"groups": ["g0"]}


@pytest.mark.parametrize("date", ["2026-11-{}", "{}.11.2026 9:30", "2026/11/{}T09:30:00Z", "11/{}/26 9:30 PM"])
def test_a_date_is_not_taken_for_a_label(project: Path, tmp_path: Path, date: str) -> None:
    rows = [f"{row},{date.format(10 + number % 9)}" for number, row in enumerate(tickets().splitlines()[1:])]
    (tmp_path / "tickets.csv").write_text("\n".join(["body,reason,opened", *rows]) + "\n")
    init(tmp_path / "tickets.csv")
    assert source_of(project, "tickets")["columns"]["label"] == "reason"


@pytest.mark.usefixtures("project")
def test_what_is_unclear_is_refused_with_the_choices(tmp_path: Path) -> None:
    source = tmp_path / "mail.csv"
    rows = "".join(f"where is item {number},{'ab'[number % 2]},{'xyz'[number % 3]}\n" for number in range(60))
    source.write_text("text,urgent,channel\n" + rows)
    with pytest.raises(DataError, match=r"is the label\? Pass --label COLUMN; there are urgent \(2 .*channel \(3"):
        init(source)
    with pytest.raises(DataError, match=r"--label chanel: .* has no such column.*Did you mean `channel`"):
        init(source, "--label", "chanel")
    with pytest.raises(DataError, match="must be numbers for regress"):
        init(source, "--label", "urgent", "--task", "regress")
    with pytest.raises(DataError, match="pairs need two columns of texts"):
        init(source, "--label", "urgent", "--task", "pairs")
    with pytest.raises(DataError, match=r"^file .*none.csv not found"):
        init(tmp_path / "none.csv")
    russian = "".join(map(chr, range(0x430, 0x450)))
    (tmp_path / "russian.csv").write_bytes(f"text,label\n{russian} {russian},{russian}\n".encode("cp1251") * 9)
    with pytest.raises(DataError, match=r"is not in UTF-8: .* --encoding"):
        init(tmp_path / "russian.csv")
    (tmp_path / "book.csv").write_bytes(b"PK\x03\x04 zipped")
    with pytest.raises(DataError, match="compressed with ZIP"):
        init(tmp_path / "book.csv")


def test_it_needs_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets.csv").write_text(tickets())
    with pytest.raises(ConfigError, match=r"dvc.yaml not found .* a clone of CCLM"):
        init("tickets.csv")


def shorten(path: Path) -> None:
    """Makes every training three steps long, and the models small."""
    text = re.sub(r"steps: \d+, batch_size: 16, window: 256", "steps: 3, batch_size: 4, window: 32", path.read_text())
    values = yaml.safe_load(text)
    small = {"kind": "attention", "num_layers": 1, "num_heads": 2, "width": 32}
    embedder = {"embedding": {"width": 32, "ngram_buckets": 256}, "encoder": small}
    values["base"]["embedder"] = embedder
    for component in values["components"].values():
        component["encoder"] = small
    for task in values["tasks"].values():
        task["training"] = {"steps": 3, "batch_size": 4}
        if "embedder" in task:
            task["embedder"] = embedder
    path.write_text(yaml.safe_dump(values))


def test_the_path_from_a_file_to_predictions(project: Path, tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text(tickets())
    init(tmp_path / "tickets.csv")
    shorten(project / "params.yaml")

    def stage(name: str, *arguments: str, out: str) -> None:
        command = ["stage", name, *arguments, "--params", "params.yaml", "--out", out]
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    stage("ingest", "--downloads", "downloads", out="data/corpus")
    stage("labeled", "tickets", "--downloads", "downloads", out="data/labeled/tickets")
    stage("vocab", "--corpus", "data/corpus", out="data/encoded")
    stage("noise", "--corpus", "data/corpus", out="data/noise")
    encoded = ["--encoded", "data/encoded"]
    stage("base", *encoded, "--checkpoints", "checkpoints/base", out="models/base")
    for part in ("masked_characters", "characters"):
        trained = ["--base", "models/base", "--checkpoints", f"checkpoints/{part}"]
        stage("pretrain", part, *encoded, *trained, out=f"models/components/{part}")
    parts = ["--base", "models/base", "--components", "models/components"]
    stage("compose", "full", *parts, out="models/compositions/full")
    for task in ("tickets", "tickets_scratch"):
        data = ["--labeled", "data/labeled", "--compositions", "models/compositions"]
        stage("finetune", task, *data, *encoded, "--checkpoints", f"checkpoints/{task}", out=f"models/tasks/{task}")
    measured = ["--task", "models/tasks/tickets", "--labeled", "data/labeled", "--noise", "data/noise"]
    stage("test", "tickets", *measured, out="results/tasks/tickets")

    result = CliRunner().invoke(app, ["predict", "tickets"], input="where is my card\n", catch_exceptions=False)
    assert json.loads(result.stdout)["label"] == "card"  # the n-grams know it after three steps
    command = ["evaluate", "tickets_scratch", "input/tickets.csv", "--label", "topic", "--clean", "--json"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert json.loads(result.stdout)["metrics"]["clean"]["accuracy"]["documents"] == 120
    result = CliRunner().invoke(app, ["embed", "full"], input="where is my card\n", catch_exceptions=False)
    assert len(json.loads(result.stdout)["vector"]) == 64
