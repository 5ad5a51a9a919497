"""Fine-tuning a model on a task, from labeled texts to a model that predicts."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cclm_core.composition.composed import ComposedModel
from cclm_core.encoders.embedder import Base, Embedder, EmbedderConfig
from cclm_core.finetuning.adding_ngrams import add_ngrams
from cclm_core.finetuning.batches import LabeledTexts
from cclm_core.finetuning.config import TaskConfig
from cclm_core.finetuning.encoding import Encoding, Noise
from cclm_core.finetuning.model import TaskCard, TaskModel
from cclm_core.finetuning.probe import fit_probe
from cclm_core.finetuning.similarities import add_similarities, ids_of_pairs
from cclm_core.finetuning.trainee import FineTuning, select
from cclm_core.heads.catalogue import HeadConfig, default_head
from cclm_core.heads.tags import Tags, TagsConfig
from cclm_core.heads.texts import TextHead, TextHeadConfig
from cclm_core.labeled.examples import LabeledTask, LabeledText
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ConfigError, DataError
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.runtime.reporting import Report, null_report
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.training.config import TrainingConfig
from cclm_core.training.loop import train
from cclm_core.training.trainee import Data

_HEADS: dict[LabeledTask, str] = {
    "classify": "classification",
    "multilabel": "multilabel",
    "regress": "regression",
    "tag": "tags",
}


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """The labeled texts of a task.

    Attributes:
        task: `classify`, `multilabel`, `regress` or `tag`.
        labels: the labels of the train split, sorted; entity labels for `tag`, none for `regress`.
        train, validation: the texts.
    """

    task: LabeledTask
    labels: tuple[str, ...]
    train: Sequence[LabeledText]
    validation: Sequence[LabeledText]

    @property
    def is_pair(self) -> bool:
        """Whether each example has two texts."""
        return self.train[0].second is not None


class TaskRun:
    """One fine-tuning: the untrained model of a task, and what the training loop needs.

    Args:
        name: the name of the task.
        config: the configuration.
        data: labeled texts.
        encoder: the embedder or composition to start from. It is trained in place: pass a copy to keep it.
        seed: seed of initial weights, batches and noise.

    Raises:
        ConfigError: the head does not fit the task, or a class weight has no label.
        DataError: a split is empty.
    """

    def __init__(self, name: str, config: TaskConfig, data: TaskData, encoder: Base, seed: int) -> None:
        self.config, self.data, self.seed = config, data, seed
        batches = LabeledTexts(data.train)
        self.loop_data = Data(batches, LabeledTexts(data.validation, "validation") if data.validation else batches)
        self.schedule: TrainingConfig = config.training.schedule(len(data.train), config.composition is not None)
        if config.train == "probe":
            self.schedule = self.schedule.model_copy(update={"steps": 0, "warmup_steps": 0})
        self._has_ngrams = config.ngrams is not None and data.task in ("classify", "tag") and not data.is_pair
        values = [float(text.value) for text in data.train if text.value is not None]
        deviation = float(np.std(values)) if values else 1.0
        self.card = TaskCard(
            name=name,
            task=data.task,
            labels=data.labels,
            is_pair=data.is_pair,
            head=_head(config, data),
            mean=float(np.mean(values)) if values else 0.0,
            deviation=deviation if deviation > 0 else 1.0,
            max_characters=config.training.max_characters,
        )
        with seeded_initialization(derive_seed(seed, "head")):
            head = self.card.head.build(self.card.context(encoder, _weights(config, data)))
        self.model = TaskModel(self.card, encoder, head)
        tagging = (head.config.unit, head.config.word_dropout) if isinstance(head, Tags) else ()
        self.encoding = Encoding(encoder.preprocessor, data.task, data.labels, self.card.max_characters, *tagging)
        self.noise = Noise(config.noise)
        select(encoder, config.train)
        if isinstance(head, TextHead) and head.similarity is not None:
            first, second = zip(*((pair.text, str(pair.second)) for pair in data.train), strict=True)
            head.similarity.fit(ids_of_pairs(self.encoding, first, second))
        self.trainee = FineTuning(encoder, head, self.encoding, self.noise, config.training.layer_decay)

    def finish(self) -> Mapping[str, float]:
        """Fits what needs no gradient, after the training: a linear probe, the n-grams and their weight.

        Returns:
            Metrics of the result.
        """
        metrics: dict[str, float] = {}
        model, encoder = self.model, self.model.encoder
        if self.config.train == "probe":
            encoder.eval()
            noise = self.noise if self.config.noise.share else None
            selected = fit_probe(model, self.encoding, noise, self.data.train, self.data.validation, self.seed)
            metrics |= {f"probe_{name}": value for name, value in selected.items()}
        elif isinstance(model.head, TextHead) and model.head.similarity is not None:
            encoder.eval()
            parts = self.data.train, self.data.validation
            metrics |= add_similarities(model, self.encoding, self.noise, *parts, self.seed)
        if isinstance(encoder, ComposedModel) and encoder.train_base:
            encoder.adopt_base()
            encoder.train_base = False
        if self._has_ngrams:
            splits = self.data.train, self.data.validation
            metrics |= {"ngram_weight": add_ngrams(model, self.config, *splits, self.seed)}
        model.requires_grad_(False).eval()
        return metrics


def fine_tune(
    name: str,
    data: TaskData,
    encoder: Base | Preprocessor,
    config: TaskConfig | Mapping[str, Any] | None = None,
    seed: int = 1,
    report: Report = null_report,
) -> TaskModel:
    """Fine-tunes a copy of `encoder` on labeled texts and returns the model of the task.

    Args:
        name: the name of the task.
        data: the labeled texts.
        encoder: an embedder or a composition to start from, or a vocabulary to start from random weights.
        config: the configuration, or a mapping of its keys; `data` and `composition` are not read.
        seed: seed of initial weights, batches and noise.
        report: receives losses and held-out metrics.
    """
    if not isinstance(config, TaskConfig):
        config = TaskConfig.parse({"data": name, "composition": name} | dict(config or {}), "config")
    if isinstance(encoder, Preprocessor):
        start: Base = new_encoder(encoder, config.embedder, seed)
        config = config.model_copy(update={"composition": None})
    else:
        start = copy.deepcopy(encoder)
    run = TaskRun(name, config, data, start, seed)
    train(run.trainee, run.loop_data, run.schedule, derive_seed(seed, "finetune"), None, report)
    run.finish()
    return run.model


def new_encoder(preprocessor: Preprocessor, config: EmbedderConfig | None, seed: int) -> Embedder:
    """An embedder with random weights."""
    with seeded_initialization(derive_seed(seed, "encoder")):
        return Embedder(preprocessor, config or EmbedderConfig())


def _head(config: TaskConfig, data: TaskData) -> HeadConfig:
    task = data.task
    head = config.head or default_head(task)
    if head.head != _HEADS[task]:
        raise ConfigError(f"head must be {_HEADS[task]} for a task {task}, got {head.head}. Change it or leave it out.")
    if isinstance(head, TextHeadConfig):
        if head.similarities and not data.is_pair:
            raise ConfigError("head: similarities needs pairs of texts, but the data has one text per row. Remove it.")
        if head.similarities is None and data.is_pair:
            head = head.model_copy(update={"similarities": True})
    if config.train == "probe":
        changes: dict[str, Any] = {"norm": False, "dropout": 0.0}  # the probe standardizes the features itself
        if isinstance(head, TagsConfig):
            if head.transitions == "learned":
                raise ConfigError(
                    "head: transitions: learned cannot be fitted by train: probe. Use fixed, or train: heads."
                )
            if head.word_layers:
                raise ConfigError(
                    f"head: word_layers must be 0 or null with train: probe, which is a linear model, got "
                    f"{head.word_layers}. Remove it, or use train: heads."
                )
            changes["word_layers"] = 0
        return head.model_copy(update=changes)
    return head


def _weights(config: TaskConfig, data: TaskData) -> tuple[float, ...] | None:
    """One weight per label, with the mean 1 over the training texts; None for equal weights."""
    if config.class_weights is None:
        return None
    if not data.labels:
        raise ConfigError(f"class_weights: a task {data.task} has no labels. Remove them.")
    if isinstance(config.class_weights, dict):
        if unknown := sorted(set(config.class_weights) - set(data.labels)):
            raise ConfigError(f"class_weights: {unknown[0]!r} is no label; {nearest(unknown[0], list(data.labels))}")
        return tuple(config.class_weights.get(label, 1.0) for label in data.labels)
    counts: Counter[str] = Counter()
    for text in data.train:
        labels = [text.label] if data.task == "classify" else text.labels
        counts.update(str(label) for label in labels)
        counts.update(entity.label for entity in text.entities)
    total = sum(counts.values())
    if not total:
        raise DataError("class_weights: balanced needs labels, but the train split has none.")
    return tuple(total / (len(data.labels) * max(1, counts[label])) for label in data.labels)
