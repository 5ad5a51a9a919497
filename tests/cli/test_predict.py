"""`cclm predict`, `cclm embed` and `cclm evaluate`: every input and output format, bad rows, wrong arguments."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner, Result

from cclm_core.cli.app import app
from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.long_texts import TextReader
from cclm_core.composition.means import MeanEmbedder
from cclm_core.composition.store import load_base, save
from cclm_core.encoders import AttentionConfig
from cclm_core.encoders.contextual import ContextualConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.finetuning.store import load_task
from cclm_core.runtime.errors import ArtifactError, ConfigError, DataError
from cclm_core.runtime.random import seeded_initialization
from tests.cli.models import publish_base, publish_task
from tests.finetuning.tasks import preprocessor

TEXTS = ["where is card", "i want my parcel", "no refund money", "please check chip"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    publish_base(folder)
    publish_task(folder, "classify", steps=120)
    publish_task(folder, "tag", steps=5)
    publish_task(folder, "multilabel", steps=5)
    publish_task(folder, "regress", is_pair=True, steps=5)
    return folder


def invoke(*arguments: object, stdin: str | bytes = "", code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_of_standard_input_become_json_lines(models: Path) -> None:
    rows = json_lines(invoke("predict", models / "classify", stdin="\n".join([*TEXTS, ""])).stdout)
    assert [row["id"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["label"] for row in rows] == ["card", "parcel", "refund", "card"]
    expected = load_task(models / "classify").predict(TEXTS)
    assert [row["score"] for row in rows] == pytest.approx([answer["score"] for answer in expected], abs=1e-5)
    assert "scores" not in rows[0]


def test_a_blank_line_is_a_text_so_that_lines_stay_aligned(models: Path) -> None:
    rows = json_lines(invoke("predict", models / "classify", stdin="card\n\nparcel\n").stdout)
    assert [row["id"] for row in rows] == ["1", "2", "3"]


def test_a_table_keeps_columns_and_is_written_as_csv(models: Path, tmp_path: Path) -> None:
    source = tmp_path / "mail.csv"
    source.write_text("number;body\n7;where is card\n8;refund money\n", encoding="utf-8")
    out = tmp_path / "out.csv"
    invoke("predict", models / "classify", source, "--text", "body", "--keep", "number", "--out", out)
    lines = out.read_text("utf-8").splitlines()
    assert lines[0] == "id,number,label,score"
    assert lines[1].startswith(f"{source}:2,7,card,") and lines[2].startswith(f"{source}:3,8,refund,")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv.gz"])
def test_formats_of_tables_give_the_same_labels(models: Path, tmp_path: Path, suffix: str) -> None:
    import gzip

    source = tmp_path / f"texts{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": TEXTS}), source)
    elif suffix == ".jsonl":
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    else:
        source.write_bytes(gzip.compress("\n".join(["text", *TEXTS]).encode()))
    out = tmp_path / "out.parquet"
    invoke("predict", models / "classify", source, "--out", out, "--scores")
    rows = pq.read_table(out).to_pylist()
    assert [row["label"] for row in rows] == ["card", "parcel", "refund", "card"]
    assert {part["label"] for part in rows[0]["scores"]} == {"card", "parcel", "refund"}


def test_bad_rows_are_reported_with_file_and_line_and_the_others_are_predicted(models: Path, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "card"}\n{"text": 5}\nnot json\n{"text": "\\ud800"}\n{"text": "parcel"}\n')
    result = invoke("predict", models / "classify", source, code=3)
    assert [row["label"] for row in json_lines(result.stdout)] == ["card", "parcel"]
    assert f"{source}:2: text is not a string" in result.stderr and f"{source}:3: not JSON" in result.stderr
    assert "3 rows were left out" in result.stderr


def test_standard_input_can_be_a_table(models: Path) -> None:
    result = invoke("predict", models / "classify", "--stdin", "csv", "--keep", "n", stdin="n,text\n1,card\n")
    assert json_lines(result.stdout)[0]["n"] == "1"


def test_entities_labels_and_pairs(models: Path, tmp_path: Path) -> None:
    entities = json_lines(invoke("predict", models / "tag", stdin="where is Ann Lee now\n").stdout)[0]["entities"]
    assert all(set(entity) == {"start", "end", "label", "text", "score"} for entity in entities)
    assert isinstance(json_lines(invoke("predict", models / "multilabel", stdin="card\n").stdout)[0]["labels"], list)
    rows = json_lines(invoke("predict", models / "regress", stdin="a card\tno card\nonly one\n", code=3).stdout)
    assert len(rows) == 1 and isinstance(rows[0]["value"], float)
    source = tmp_path / "pairs.csv"
    source.write_text("a,b\ncard,chip\n")
    result = invoke("predict", models / "regress", source, "--text", "a", "--second", "b")
    assert json_lines(result.stdout)[0]["id"] == f"{source}:2"
    with pytest.raises(ConfigError, match=r"reads pairs of texts\. Pass --second"):
        invoke("predict", models / "regress", source, "--text", "a")
    with pytest.raises(ConfigError, match="reads one text"):
        invoke("predict", models / "classify", source, "--second", "b")


def test_wrong_arguments_of_predict_are_refused_before_anything_is_read(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--out must end in \.jsonl, \.csv, \.parquet"):
        invoke("predict", models / "classify", "--out", tmp_path / "out.xlsx")
    with pytest.raises(DataError, match=r"file .*none.csv not found"):
        invoke("predict", models / "classify", tmp_path / "none.csv", "--out", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    source = tmp_path / "mail.csv"
    source.write_text("number,body\n7,where is card\n")
    with pytest.raises(DataError, match=r"column `text` not found in .*it has number, body. Pass --text COLUMN"):
        invoke("predict", models / "classify", source)


def test_a_model_is_found_by_its_name_and_an_unknown_one_names_the_nearest(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tasks").symlink_to(models)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert json_lines(invoke("predict", "classify", stdin="card\n").stdout)[0]["label"] == "card"
    with pytest.raises(ArtifactError, match=r"model clasify not found.*did you mean 'classify'"):
        invoke("predict", "clasify", stdin="card\n")
    with pytest.raises(ConfigError, match="registered model"):
        invoke("predict", "classify@champion", stdin="card\n")


def test_a_registered_model_is_opened_by_the_outer_program(models: Path) -> None:
    from contextlib import contextmanager

    opened: list[str] = []

    @contextmanager
    def registered(name: str):  # type: ignore[no-untyped-def]
        opened.append(name)
        yield models / "classify"

    result = CliRunner().invoke(app, ["predict", "toy@candidate"], input="card\n", obj=registered)
    assert result.exit_code == 0 and opened == ["toy@candidate"]


def test_embedding_equals_that_of_the_model_whatever_the_batch(models: Path, tmp_path: Path) -> None:
    texts = ["", "card", "a much longer text " * 90, "parcel", "é 東京"]
    source = tmp_path / "texts.txt"
    source.write_text("\n".join(texts) + "\n", encoding="utf-8")
    out = tmp_path / "vectors.parquet"
    invoke("embed", models / "classify", source, "--out", out)
    table = pq.read_table(out)
    vectors = np.array(table.column("vector").to_pylist(), dtype=np.float32)
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 32)
    np.testing.assert_allclose(vectors, load_task(models / "classify").embed(texts), atol=2e-5)
    assert not vectors[0].any() and table.column("id").to_pylist()[1] == f"{source}:2"
    rows = json_lines(invoke("embed", models / "base", stdin="card\nparcel\n").stdout)
    expected = MeanEmbedder(load_base(models / "base")).embed(["card", "parcel"])
    np.testing.assert_allclose([row["vector"] for row in rows], expected, atol=1e-5)


def test_one_vector_per_author_is_the_mean_of_the_texts(models: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "chat.csv", tmp_path / "authors.parquet"
    source.write_text("author,text\nann,card\nbob,parcel\nann,refund money\n")
    invoke("embed", models / "base", source, "--by", "author", "--out", out, "--precision", "float16")
    rows = pq.read_table(out).to_pylist()
    own = MeanEmbedder(load_base(models / "base")).embed(["card", "refund money"]).mean(0)
    assert [(row["author"], row["texts"]) for row in rows] == [("ann", 2), ("bob", 1)]
    np.testing.assert_allclose(np.array(rows[0]["vector"], dtype=np.float32), own, atol=2e-3)
    with pytest.raises(ConfigError, match="vectors do not fit into CSV"):
        invoke("embed", models / "base", source, "--out", tmp_path / "out.csv")


def test_authors_get_encodings_from_a_part_that_reads_contexts(tmp_path: Path) -> None:
    base = load_base(publish_base(tmp_path)).freeze()
    with seeded_initialization(1):
        encoder = ContextualConfig(core_width=32, width=32, num_layers=1)
        part = Component(ComponentCard.over(base, "authors", "context_masked_characters", encoder))
    save(ComposedModel(base, [part]), tmp_path / "composed")
    source, out = tmp_path / "chat.csv", tmp_path / "authors.parquet"
    source.write_text(f"author,text\nann,card\nbob,parcel\nann,{'refund money ' * 40}\n")
    invoke("embed", tmp_path / "composed", source, "--by", "author", "--out", out)
    rows = pq.read_table(out).to_pylist()
    ids = torch.from_numpy(base.preprocessor.encode("card").astype(np.int64))[None]
    with torch.inference_mode():
        first = part.encode_contexts(ids, base)[0].numpy()
    long = MeanEmbedder(load_base(tmp_path / "composed")).embed_contexts(["refund money " * 40])[0]
    np.testing.assert_allclose(rows[0]["encoding"], (first + long) / 2, atol=1e-4)
    assert len(rows[1]["encoding"]) == 32 and len(rows[1]["vector"]) == 32


def test_a_stream_of_texts_gives_the_vectors_of_a_list(models: Path) -> None:
    embedder = MeanEmbedder(load_base(models / "base"), window=64, batch_ids=256)
    texts = [f"text {number} " * (number % 40) for number in range(100)]
    streamed = np.stack(list(embedder.stream(text for text in texts)))
    np.testing.assert_allclose(streamed, embedder.embed(texts), atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_a_mean_vector_is_the_mean_of_the_features_in_all_windows(causal: bool) -> None:
    with seeded_initialization(1):
        encoder = AttentionConfig(num_layers=1, num_heads=2, width=32, causal=causal)
        embedding = EmbeddingConfig(width=32, ngram_sizes=(), ngram_buckets=16)
        model = Embedder(preprocessor(), EmbedderConfig(embedding=embedding, encoder=encoder)).eval()
    texts = ["", "a", "characters in several windows " * 9, "short text"]
    reader = TextReader(model, window=64, causal=causal)
    features = reader.whole([model.preprocessor.encode(text) for text in texts], model.width)
    expected = [row.mean(0).numpy() if len(row) else np.zeros(32) for row in features]
    np.testing.assert_allclose(MeanEmbedder(model, window=64, batch_ids=200).embed(texts), expected, atol=1e-5)


def test_evaluation_has_intervals_and_lists_unknown_labels(models: Path, tmp_path: Path) -> None:
    source = tmp_path / "test.csv"
    rows = [("where is card", "card"), ("parcel", "parcel"), ("refund", "refund"), ("no money", "refund")] * 10
    source.write_text("body,topic\n" + "".join(f"{text},{label}\n" for text, label in [*rows, ("hello", "greeting")]))
    result = invoke("evaluate", models / "classify", source, "--text", "body", "--label", "topic", "--json")
    values = json.loads(result.stdout)
    assert values["texts"] == 41 and values["unknown_labels"] == {"greeting": 1}
    accuracy = values["metrics"]["clean"]["accuracy"]
    assert accuracy["value"] > 0.9 and accuracy["interval"][0] < accuracy["value"] < 1
    assert values["metrics"]["noise_0.2"]["accuracy"]["value"] < accuracy["value"]
    table = invoke("evaluate", models / "classify", source, "--text", "body", "--label", "topic", "--clean").stdout
    assert "1 labels are unknown to the model, with 1 texts" in table and "noise" not in table


def test_evaluation_reads_conll_and_refuses_labels_of_another_task(models: Path, tmp_path: Path) -> None:
    source = tmp_path / "test.conll"
    source.write_text("where O\nis O\nAnn B-PER\nLee I-PER\n\nRome B-LOC\nnow O\n\n" * 5)
    result = invoke("evaluate", models / "tag", source, "--noise", "0.1", "--json")
    assert set(json.loads(result.stdout)["metrics"]) == {"clean", "noise_0.1"}
    with pytest.raises(DataError, match="is CoNLL, but the model toy has the task classify"):
        invoke("evaluate", models / "classify", source)
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("text,label\na card,x\na chip,y\nhere,x\n")
    with pytest.raises(DataError, match="knows none of the labels of the data, such as x, y; it knows card"):
        invoke("evaluate", models / "classify", wrong)


def test_memory_of_standard_input_that_is_not_utf8(models: Path) -> None:
    result = invoke("predict", models / "classify", stdin=io.BytesIO(b"card\n\xff\n").getvalue(), code=3)
    assert len(json_lines(result.stdout)) == 1 and "standard input:2: not UTF-8" in result.stderr
