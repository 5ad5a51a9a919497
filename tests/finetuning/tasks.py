"""Small tasks for the tests: the answer is visible in the text."""

from typing import Any

import numpy as np

from cclm_core.corpus.records import Entity
from cclm_core.encoders import AttentionConfig
from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.finetuning.config import TaskConfig
from cclm_core.finetuning.fit import TaskData
from cclm_core.labeled.examples import LabeledTask, LabeledText
from cclm_core.runtime.random import seeded_initialization
from cclm_core.text.vocabulary import Preprocessor

TOPICS = {
    "card": ("card", "chip", "pin"),
    "parcel": ("parcel", "post", "box"),
    "refund": ("refund", "money", "paid"),
}
NAMES = {"PER": ("Ann Lee", "Bob"), "LOC": ("Rome", "New York")}
FILLERS = ("where is", "i want", "please check", "no")
CONFIG: dict[str, Any] = {
    "data": "toy",
    "composition": "full",
    "ngrams": None,
    "noise": {"share": 0.25},
    "training": {"steps": 60, "batch_size": 16, "evaluate_every": 30, "learning_rate": 0.01},
}


def preprocessor() -> Preprocessor:
    """A vocabulary of ASCII."""
    return Preprocessor(alphabet="".join(map(chr, range(32, 127))))


def embedder(seed: int = 1) -> Embedder:
    """A small embedder with random weights."""
    with seeded_initialization(seed):
        encoder = AttentionConfig(num_layers=1, num_heads=2, width=32)
        config = EmbedderConfig(embedding=EmbeddingConfig(width=32, ngram_buckets=256), encoder=encoder)
        return Embedder(preprocessor(), config)


def config(**changes: Any) -> TaskConfig:
    """A short fine-tuning."""
    training = CONFIG["training"] | changes.pop("training", {})
    return TaskConfig.parse(CONFIG | changes | {"training": training}, "tasks.toy")


def texts(task: LabeledTask, number: int, seed: int, is_pair: bool = False) -> list[LabeledText]:
    """Texts with their targets."""
    generator = np.random.default_rng(seed)
    return [_text(task, f"{seed}-{index}", generator, is_pair) for index in range(number)]


def data(task: LabeledTask, is_pair: bool = False, train: int = 96) -> TaskData:
    """Training and validation texts."""
    labels = {"classify": tuple(TOPICS), "multilabel": tuple(TOPICS), "regress": (), "tag": ("LOC", "PER")}[task]
    labels = ("no", "yes") if task == "classify" and is_pair else labels
    parts = texts(task, train, 1, is_pair), texts(task, 32, 2, is_pair)
    return TaskData(task=task, labels=labels, train=parts[0], validation=parts[1])


def _text(task: LabeledTask, name: str, generator: np.random.Generator, is_pair: bool) -> LabeledText:
    topics = [str(generator.choice(list(TOPICS))) for _ in range(2)]
    filler = str(generator.choice(FILLERS))
    words = [str(generator.choice(TOPICS[topic])) for topic in topics]
    text = f"{filler} {words[0]}"
    slices = {"channel": "chat" if generator.random() < 0.5 else "mail"}
    if task == "tag":
        label = str(generator.choice(list(NAMES)))
        entity = str(generator.choice(NAMES[label]))
        text = f"{filler} {entity} now"
        start = len(filler) + 1
        spans, position = [], 0
        for word in text.split():
            spans.append((position, position + len(word)))
            position += len(word) + 1
        entities = (Entity(start, start + len(entity), label),)
        return LabeledText(name, text, entities=entities, words=tuple(spans), slices=slices)
    if task == "multilabel":
        both = f"{text} {words[1]}"
        return LabeledText(name, both, labels=tuple(sorted(set(topics))), slices=slices)
    if is_pair:
        other = f"{generator.choice(FILLERS)} {words[1]}"
        same = topics[0] == topics[1]
        if task == "regress":
            return LabeledText(name, text, other, value=float(same), slices=slices)
        return LabeledText(name, text, other, label="yes" if same else "no", slices=slices)
    if task == "regress":
        return LabeledText(name, text, value=10.0 * list(TOPICS).index(topics[0]), slices=slices)
    return LabeledText(name, text, label=topics[0], slices=slices)
