"""Models of tasks in Hugging Face's format: the answers of `TaskModel.predict`, for texts of any length."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'cclm-core[huggingface]'")

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
from typer.testing import CliRunner

from cclm_core.cli.app import app
from cclm_core.finetuning import TaskModel, fine_tune, save_task
from cclm_core.huggingface import (
    CclmForSequenceClassification,
    CclmForTokenClassification,
    export,
    from_cclm,
    to_cclm,
    tokenizer_of,
)
from cclm_core.huggingface.tagging import scores_of_ids, words_in
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.vocabulary import Preprocessor
from tests.finetuning.tasks import config, data, embedder

TEXTS = ["where is my card", "", "i", "no money", "please check the box. " * 4, "the naïve 🙂 post"]


def trained(task: Any, is_pair: bool = False, **changes: Any) -> TaskModel:
    """A model that reads windows of 16 ids."""
    training = {"steps": 20, "max_characters": 16, **changes.pop("training", {})}
    return fine_tune("toy", data(task, is_pair), embedder(), config(training=training, **changes))


def run(model: Any) -> Any:
    task = "token-classification" if isinstance(model, CclmForTokenClassification) else "text-classification"
    return pipeline(task, model, tokenizer=tokenizer_of(model), device="cpu")


@pytest.mark.parametrize("pooling", ["mean_max", "mean", "attention"])
def test_labels_have_the_same_probabilities(pooling: str) -> None:
    model = trained("classify", head={"head": "classification", "pooling": pooling, "norm": pooling != "mean"})
    converted = from_cclm(model)
    assert isinstance(converted, CclmForSequenceClassification) and converted.config.window == 16
    for answers, expected in zip(run(converted)(TEXTS, top_k=None, batch_size=3), model.predict(TEXTS), strict=True):
        assert {one["label"]: one["score"] for one in answers} == pytest.approx(expected["scores"], abs=1e-5)
    assert to_cclm(converted).digest == model.encoder.digest


def test_several_labels_and_numbers() -> None:
    several = trained("multilabel")
    answers = run(from_cclm(several))(TEXTS, top_k=None)
    for scores, expected in zip(answers, several.predict(TEXTS), strict=True):
        assert {one["label"]: one["score"] for one in scores} == pytest.approx(expected["scores"], abs=1e-5)
    number = trained("regress")
    values = [answer["score"] for answer in run(from_cclm(number))(TEXTS)]
    assert values == pytest.approx([answer["value"] for answer in number.predict(TEXTS)], abs=1e-4)


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_pairs(task: Any) -> None:
    model = trained(task, is_pair=True)
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    answers = run(from_cclm(model))([{"text": first, "text_pair": second} for first, second in pairs], batch_size=2)
    key = "score" if task == "classify" else "value"
    assert [one["score"] for one in answers] == pytest.approx([one[key] for one in model.predict(pairs)], abs=1e-4)


@pytest.mark.parametrize(("unit", "transitions"), [("word", "fixed"), ("character", "fixed"), ("word", "learned")])
def test_entities(unit: str, transitions: str, tmp_path: Path) -> None:
    head = {"head": "tags", "unit": unit, "transitions": transitions}
    model = trained("tag", training={"steps": 80, "max_characters": 64}, head=head)
    texts = ["where is Ann Lee now", "no Rome now", "", "i want New York now", "please check Bob now"]
    export(model, tmp_path / "tags")
    find = pipeline("token-classification", str(tmp_path / "tags"), aggregation_strategy="simple", device="cpu")
    for text, expected in zip(texts, model.predict(texts), strict=True):
        entities = [(one["start"], one["end"], one["entity_group"]) for one in find(text)]
        assert entities == [(one["start"], one["end"], one["label"]) for one in expected["entities"]]
    assert sum(len(answer["entities"]) for answer in model.predict(texts)) >= 3
    converted = from_cclm(model).train()
    batch = tokenizer_of(converted)(texts, padding=True, return_tensors="pt")
    loss = converted(**batch, labels=torch.where(batch["attention_mask"] > 0, 0, -100)).loss
    loss.backward()
    assert loss.isfinite() and converted.classifier.weight.grad.isfinite().all()
    left = tokenizer_of(converted)(texts, padding=True, padding_side="left", return_tensors="pt")
    with torch.no_grad():
        right_logits, left_logits = converted.eval()(**batch).logits, converted(**left).logits
    for row in range(len(texts)):
        kept = [side["attention_mask"][row].bool() for side in (batch, left)]
        assert torch.allclose(right_logits[row][kept[0]], left_logits[row][kept[1]], atol=1e-4)


def test_tags_of_words_become_tags_of_their_ids() -> None:
    preprocessor = Preprocessor(alphabet="ab, ")
    ids = np.concatenate([preprocessor.encode("ab é,"), [0]]).astype(np.int64)
    words = words_in(torch.from_numpy(ids)[None], preprocessor, "word")
    assert (words.start.tolist(), words.stop.tolist()) == ([0, 3, 5], [2, 5, 6]), "ab, é of two bytes, and the comma"
    certain = torch.full((3, 3), -50.0)
    certain[[0, 1, 2], [1, 2, 0]] = 50.0  # B, I, O
    tags = scores_of_ids(certain, words, (1, 7)).argmax(-1)[0].tolist()
    assert tags == [1, 2, 2, 2, 2, 0, 0]
    certain[1] = torch.tensor([-50.0, 50.0, -50.0])  # another entity begins
    assert scores_of_ids(certain, words, (1, 7)).argmax(-1)[0].tolist() == [1, 2, 0, 1, 2, 0, 0]
    assert torch.allclose(scores_of_ids(torch.randn(3, 3), words, (1, 7)).exp().sum(-1), torch.ones(1, 7), atol=1e-5)
    broken = torch.tensor([[4 + 0xC3, 260, 4 + 0xA9, 2, 260]])  # bytes that are no character, and CLS
    parts = words_in(broken, preprocessor, "character")
    assert (parts.start.tolist(), parts.stop.tolist()) == ([0, 1, 4], [1, 3, 5])


def test_tags_with_ngrams_are_exported_only_without_them() -> None:
    model = trained("tag", ngrams={"weight": 1.0}, training={"steps": 2})
    with pytest.raises(ConfigError, match="the task 'toy' adds character n-grams to its network"):
        from_cclm(model)
    assert isinstance(from_cclm(model, drop_ngrams=True), CclmForTokenClassification)


def test_a_task_with_ngrams_is_exported_without_them_only_on_request(tmp_path: Path) -> None:
    model = trained("classify", ngrams={"weight": 1.0})
    save_task(model, tmp_path / "task")
    with pytest.raises(ConfigError, match="the task 'toy' adds character n-grams to its network"):
        export(tmp_path / "task", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    arguments = ["export", str(tmp_path / "task"), str(tmp_path / "out"), "--drop-ngrams", "--license", "MIT"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "AutoModelForSequenceClassification.from_pretrained(" in result.output
    converted = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        own = torch.log_softmax(converted(**batch).logits, -1).numpy()
    assert np.allclose(own, model.log_probabilities(TEXTS, ngram_weight=0.0), atol=1e-5)
    assert "n-grams" in (tmp_path / "out" / "README.md").read_text()
