"""The labeled sets of benchmarks/tasks.py, read from a folder that is not part of the project."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cclm_core.corpus.records import Entity
from cclm_core.finetuning.fit import TaskData
from cclm_core.labeled.examples import LabeledTask, LabeledText
from cclm_core.runtime.random import derive

DATA = Path(__file__).parents[2] / "shared" / "data"


class TaskSet(NamedTuple):
    """A task with its test texts.

    Args:
        name: name of the set, with the number of training examples if it is a sample.
        data: training and validation texts.
        test: test texts.
    """

    name: str
    data: TaskData
    test: list[LabeledText]


def _set(
    name: str,
    task: LabeledTask,
    train: list[LabeledText],
    validation: list[LabeledText],
    test: list[LabeledText],
) -> TaskSet:
    labels = (
        {entity.label for text in train for entity in text.entities}
        if task == "tag"
        else {text.label for text in train if text.label is not None}
    )
    return TaskSet(name, TaskData(task=task, labels=tuple(sorted(labels)), train=train, validation=validation), test)


def _split(texts: Sequence[LabeledText], share: float, seed: int) -> tuple[list[LabeledText], list[LabeledText]]:
    """Divides texts at random: those that remain, and `share` of them."""
    order = derive(seed, "split").permutation(len(texts)).tolist()
    number = round(share * len(texts))
    held_out = set(order[:number])
    return [text for row, text in enumerate(texts) if row not in held_out], [texts[row] for row in sorted(held_out)]


def few(name: str, source: TaskSet, per_class: int, seed: int) -> TaskSet:
    """`per_class` training texts of each label, drawn from `seed`; no validation texts."""
    every = [*source.data.train, *source.data.validation]
    generator, train = derive(seed, "few"), []
    for label in source.data.labels:
        rows = [text for text in every if text.label == label]
        train += [rows[row] for row in generator.permutation(len(rows))[:per_class].tolist()]
    return _set(name, source.data.task, train, [], source.test)


def sentences(name: str, source: TaskSet, number: int, seed: int) -> TaskSet:
    """`number` training sentences, drawn from `seed`."""
    order = derive(seed, "few").permutation(len(source.data.train))[:number]
    train = [source.data.train[row] for row in sorted(order.tolist())]
    return _set(name, source.data.task, train, source.data.validation, source.test)


def labeled(rows: Sequence[tuple[str, str]], split: str) -> list[LabeledText]:
    """Texts with one label each."""
    return [LabeledText(f"{split}-{number}", text, label=label) for number, (text, label) in enumerate(rows)]


def banking77() -> TaskSet:
    """Questions of bank customers, 77 intents."""

    def rows(split: str) -> list[tuple[str, str]]:
        """The rows of a file."""
        with (DATA / "banking77" / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
            return [(row["text"], row["category"]) for row in csv.DictReader(stream)]

    train, validation = _split(labeled(rows("train"), "train"), 0.05, 1)
    return _set("banking77", "classify", train, validation, labeled(rows("test"), "test"))


def trec() -> TaskSet:
    """Questions, six classes."""

    def rows(split: str) -> list[tuple[str, str]]:
        """The rows of a file."""
        lines = (DATA / "sentconv" / f"TREC.{split}.all").read_text(encoding="latin-1").splitlines()
        return [(text, label) for label, _, text in (line.partition(" ") for line in lines if line)]

    train, validation = _split(labeled(rows("train"), "train"), 0.05, 1)
    return _set("TREC", "classify", train, validation, labeled(rows("test"), "test"))


def sst2() -> TaskSet:
    """Sentences of film reviews, positive or negative."""

    def rows(split: str) -> list[tuple[str, str]]:
        """The rows of a file."""
        lines = (DATA / "sst2" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
        return [(text, label) for text, _, label in (line.rpartition("\t") for line in lines if line)]

    return _set(
        "SST-2",
        "classify",
        labeled(rows("train"), "train"),
        labeled(rows("dev"), "dev"),
        labeled(rows("test"), "test"),
    )


def sms() -> TaskSet:
    """Text messages, spam or not; a fifth is for testing."""
    lines = (DATA / "sms_spam" / "SMSSpamCollection").read_text(encoding="utf-8").splitlines()[1:]
    rows = [(text, label) for label, _, text in (line.partition("\t") for line in lines if line)]
    rest, test = _split(labeled(rows, "sms"), 0.2, 2)
    train, validation = _split(rest, 0.05, 1)
    return _set("SMS spam", "classify", train, validation, test)


def clinc150() -> TaskSet:
    """Questions to an assistant, 150 intents, without the out-of-scope ones."""
    splits = json.loads((DATA / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    train, validation, test = (
        labeled([(text, label) for text, label in splits[name]], name) for name in ("train", "val", "test")
    )
    return _set("clinc150", "classify", train, validation[:1000], test)


def mrpc() -> TaskSet:
    """Pairs of sentences, paraphrases or not."""

    def rows(file: str) -> list[LabeledText]:
        """The rows of a file."""
        lines = (DATA / "glue" / "MRPC" / file).read_text(encoding="utf-8-sig").splitlines()[1:]
        cells = [line.split("\t") for line in lines if line]
        return [LabeledText(f"{file}-{row[1]}-{row[2]}", row[3], row[4], label=row[0]) for row in cells]

    train, validation = _split(rows("msr_paraphrase_train.txt"), 0.05, 1)
    return _set("MRPC", "classify", train, validation, rows("msr_paraphrase_test.txt"))


def stsb() -> TaskSet:
    """Pairs of sentences with their similarity, 0 to 5; the labeled development split is for testing."""

    def rows(split: str) -> list[LabeledText]:
        """The rows of a file."""
        lines = (DATA / "glue" / "STS-B" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        cells = [line.split("\t") for line in lines if line]
        return [LabeledText(f"{split}-{row[0]}", row[7], row[8], value=float(row[9])) for row in cells]

    train, validation = _split(rows("train"), 0.05, 1)
    return _set("STS-B", "regress", train, validation, rows("dev"))


def _conll(path: Path, separator: str | None, column: int) -> list[LabeledText]:
    texts, words, tags = [], [], []
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        cells = line.split(separator)
        if line.strip() and not line.startswith("-DOCSTART-"):
            words.append(cells[0])
            tags.append(cells[column].split(",")[0])
        elif words:
            texts.append(_tagged(f"{path.stem}-{len(texts)}", words, tags))
            words, tags = [], []
    return texts


def _tagged(name: str, words: Sequence[str], tags: Sequence[str]) -> LabeledText:
    spans, entities, start = [], [], 0
    for word, tag in zip(words, tags, strict=True):
        spans.append((start, start + len(word)))
        label = tag[2:]
        if tag.startswith("I-") and entities and entities[-1].label == label and entities[-1].end == start - 1:
            entities[-1] = entities[-1]._replace(end=start + len(word))
        elif tag != "O":
            entities.append(Entity(start, start + len(word), label))
        start += len(word) + 1
    return LabeledText(name, " ".join(words), entities=tuple(entities), words=tuple(spans))


def conll2003() -> TaskSet:
    """News with persons, organizations, locations and others."""
    train, validation, test = (
        _conll(DATA / "conll2003" / f"{split}.txt", None, 1) for split in ("train", "valid", "test")
    )
    return _set("conll2003", "tag", train, validation[:500], test)


def wnut17() -> TaskSet:
    """Noisy text of users with rare entities."""
    files = ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated")
    train, validation, test = (_conll(DATA / "wnut17" / file, "\t", 1) for file in files)
    return _set("wnut17", "tag", train, validation[:500], test)


def task_sets(seed: int) -> Iterator[tuple[str, Callable[[], TaskSet]]]:
    """Name -> function that reads the set; samples are drawn from `seed`."""
    yield "TREC", trec
    yield "banking77, 8 per class", lambda: few("banking77, 8 per class", banking77(), 8, seed)
    yield "banking77, 32 per class", lambda: few("banking77, 32 per class", banking77(), 32, seed)
    yield "banking77", banking77
    yield "SST-2", sst2
    yield "SMS spam", sms
    yield "clinc150", clinc150
    yield "MRPC", mrpc
    yield "STS-B", stsb
    yield "conll2003, 200", lambda: sentences("conll2003, 200", conll2003(), 200, seed)
    yield "conll2003, 1,000", lambda: sentences("conll2003, 1,000", conll2003(), 1000, seed)
    yield "conll2003", conll2003
    yield "wnut17", wnut17


def general_texts() -> list[str]:
    """Paragraphs of novels, encyclopedia and news, and the training texts of all sets without their labels."""
    texts: list[str] = []
    for path in (
        *sorted((DATA / "wikitext2_partial").glob("*.txt")),
        *sorted((DATA / "gutenberg_novels").glob("[0-9p]*.txt")),
        DATA / "warandpeace" / "warandpeace.txt",
        DATA / "ptb" / "ptb.train.txt",
    ):
        content = path.read_text(encoding="utf-8", errors="replace")
        separator = "\n" if path.parent.name in ("ptb", "wikitext2_partial") else "\n\n"
        texts += [" ".join(text.split()) for text in content.split(separator) if len(text) > 40]
    for read in (banking77, trec, sst2, sms, clinc150, mrpc, stsb, conll2003, wnut17):
        train = read().data.train
        texts += [text.text for text in train] + [text.second for text in train if text.second is not None]
    order = np.random.default_rng(1).permutation(len(texts))
    return [texts[number] for number in order.tolist()]
