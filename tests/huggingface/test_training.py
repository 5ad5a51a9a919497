"""`Trainer`: it learns, from files and streams, and accumulated gradients are those of one large batch."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'cclm-core[huggingface]'")

import numpy as np
import torch
from datasets import Dataset, load_dataset
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
    set_seed,
)

from cclm_core.huggingface import align_word_labels, from_cclm, tokenizer_from, tokenizer_of
from tests.huggingface.small import TEXTS, embedder, vocabulary

TOKENIZER = tokenizer_from(vocabulary())
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    defaults = {"per_device_train_batch_size": 4, "learning_rate": 5e-3, "logging_steps": 1, "save_strategy": "no"}
    return TrainingArguments(
        str(folder), use_cpu=True, report_to="none", disable_tqdm=True, seed=1, **(defaults | options)
    )


def classified(text: str) -> int:
    return int(" not " in text)


def rows() -> list[dict[str, Any]]:
    words = ["to", "be", "or", "the", "question", "is"]
    generator = np.random.default_rng(1)
    texts = [" ".join(generator.choice(words, 4)) for _ in range(40)]
    texts += [text.replace(" ", " not ", 1) for text in texts]
    return [{"text": text, "label": classified(text)} for text in texts]


def test_it_learns_from_a_csv_file_and_predicts_in_a_pipeline(tmp_path: Path) -> None:
    with (tmp_path / "train.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows())
    table = load_dataset("csv", data_files=str(tmp_path / "train.csv"), cache_dir=str(tmp_path))["train"]
    table = table.map(lambda batch: TOKENIZER(batch["text"], truncation=True, max_length=32), batched=True)
    set_seed(1)
    model = from_cclm(embedder(), "sequence-classification", labels=["positive", "negative"])
    trainer = Trainer(
        model,
        arguments(tmp_path / "run", num_train_epochs=6, eval_strategy="epoch"),
        train_dataset=table,
        eval_dataset=table,
        processing_class=TOKENIZER,
        data_collator=DataCollatorWithPadding(TOKENIZER),
        compute_metrics=lambda scored: {"accuracy": float((scored.predictions.argmax(-1) == scored.label_ids).mean())},
    )
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.95
    trainer.save_model(str(tmp_path / "model"))
    run = pipeline("text-classification", str(tmp_path / "model"), device="cpu")
    assert [answer["label"] for answer in run(["to not be or", "to be or the"])] == ["negative", "positive"]


class Recorded(Trainer):
    """Records the gradients of each optimizer step."""

    def create_optimizer(self, *values: Any) -> Any:
        optimizer = super().create_optimizer(*values)
        self.gradients: list[torch.Tensor] = []

        def record(*_: Any) -> None:
            grads = [p.grad.flatten() for p in self.model.parameters() if p.grad is not None]
            self.gradients.append(torch.cat(grads).clone())

        optimizer.register_step_pre_hook(record)
        return optimizer


def examples(task: str) -> list[dict[str, Any]]:
    table = []
    for number, text in enumerate([*TEXTS, "a", "to be", "naïve", "or not"]):
        encoding = dict(TOKENIZER(text))
        length = len(encoding["input_ids"])
        if task == "sequence-classification":
            encoding["labels"] = number % 3
        elif task == "token-classification":
            encoding["labels"] = [index % 3 if index % 4 else -100 for index in range(length)]
        else:
            encoding["labels"] = list(encoding["input_ids"])
        table.append(encoding)
    return table


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification", "masked-lm", "causal-lm"])
def test_accumulated_gradients_are_those_of_one_batch(task: str, tmp_path: Path) -> None:
    steps = []
    for size in (8, 2):
        labels = {"labels": ["a", "b", "c"]} if task.endswith("classification") else {}
        set_seed(3)
        kind = "causal" if task == "causal-lm" else "hourglass"
        model = from_cclm(embedder(kind), task, classifier_dropout=0.0, **labels)  # type: ignore[arg-type]
        collator: Any = DataCollatorForTokenClassification(TOKENIZER)
        if task == "sequence-classification":
            collator = DataCollatorWithPadding(TOKENIZER)
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size, "max_steps": 1}
        trainer = Recorded(
            model,
            arguments(tmp_path, max_grad_norm=0.0, **options),
            train_dataset=Dataset.from_list(examples(task)),
            data_collator=collator,
        )
        trainer.train()
        steps.append(trainer.gradients)
    (whole,), (accumulated,) = steps
    assert whole.norm() > 1e-3
    assert torch.allclose(accumulated, whole, rtol=1e-3, atol=1e-5 * float(whole.norm()))


def test_streams_collators_checkpointing_and_label_smoothing_work_together(tmp_path: Path) -> None:
    def stream() -> Iterator[dict[str, Any]]:
        for _ in range(40):
            for text in TEXTS:
                yield dict(TOKENIZER(text, return_special_tokens_mask=True))

    from datasets import IterableDataset

    set_seed(1)
    model = from_cclm(embedder(), "masked-lm")
    trainer = Trainer(
        model,
        arguments(tmp_path, max_steps=40, activation_checkpointing=True, label_smoothing_factor=0.1),
        train_dataset=IterableDataset.from_generator(stream),
        data_collator=DataCollatorForLanguageModeling(TOKENIZER, mlm_probability=0.3),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:2])


def test_a_model_of_the_next_character_trains_on_its_own_ids(tmp_path: Path) -> None:
    model = from_cclm(embedder("causal"), "causal-lm")
    tokenizer = tokenizer_of(model)
    table = Dataset.from_dict({"text": TEXTS}).map(
        lambda batch: tokenizer(batch["text"]), batched=True, remove_columns="text"
    )
    trainer = Trainer(
        model,
        arguments(tmp_path, max_steps=60, learning_rate=2e-2),
        train_dataset=table,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.train()
    prompt = tokenizer(["To be", "Mary A"], return_tensors="pt", padding=True)
    assert prompt["input_ids"].shape == (2, 7) and prompt["attention_mask"][0, 0] == 0, "padding is on the left"
    written = model.generate(**prompt, max_new_tokens=14, do_sample=False)
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    assert texts[0].startswith("To be, or not") and texts[1].startswith("Mary Ann went")


def test_smoothed_labels_of_the_next_character_are_shifted(tmp_path: Path) -> None:
    model = from_cclm(embedder("causal"), "causal-lm")
    ids = TOKENIZER(TEXTS[0], return_tensors="pt")["input_ids"]
    trainer = Trainer(model, arguments(tmp_path, label_smoothing_factor=0.2), train_dataset=[{}])
    loss = trainer.compute_loss(model, {"input_ids": ids, "labels": ids.clone()})
    logits = model(input_ids=ids).logits
    expected = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], label_smoothing=0.2)
    assert torch.allclose(loss, expected, atol=1e-5)


def test_word_labels_train_a_tagger_with_exact_spans(tmp_path: Path) -> None:
    sentences = [
        (["Mary", "Ann", "went", "to", "New", "York", "."], ["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "O"]),
        (["to", "be", "or", "not"], ["O"] * 4),
        (["New", "York", "is", "not", "Mary"], ["B-LOC", "I-LOC", "O", "O", "B-PER"]),
    ]
    label2id = {label: index for index, label in enumerate(LABELS)}
    encodings = [align_word_labels(words, tags, TOKENIZER, label2id).encoding for words, tags in sentences]
    set_seed(1)
    model = from_cclm(embedder(), "token-classification", labels=LABELS, classifier_dropout=0.0)
    trainer = Trainer(
        model,
        arguments(tmp_path / "run", max_steps=60, learning_rate=1e-2),
        train_dataset=Dataset.from_list([dict(encoding) for encoding in encodings] * 4),
        data_collator=DataCollatorForTokenClassification(TOKENIZER),
    )
    trainer.train()
    model.save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    loaded = AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
    text = "Mary Ann went to New York ."
    for strategy in ("simple", "first", "average", "max"):
        run = pipeline("token-classification", loaded, tokenizer=TOKENIZER, aggregation_strategy=strategy, device="cpu")
        spans = [(found["entity_group"], found["start"], found["end"]) for found in run(text)]
        if strategy in ("simple", "first"):
            assert spans == [("PER", 0, 8), ("LOC", 17, 25)], strategy
        assert spans[0][0] == "PER"
    assert run("") == []
    windows = pipeline("token-classification", loaded, tokenizer=TOKENIZER, aggregation_strategy="simple", stride=8)
    TOKENIZER.model_max_length = 24
    try:
        found = windows(f"{text} {text}")
    finally:
        TOKENIZER.model_max_length = int(1e30)
    assert [(one["entity_group"], one["start"], one["end"]) for one in found][:2] == [("PER", 0, 8), ("LOC", 17, 25)]
