"""Converts models of CCLM to Hugging Face's format and back, and exports them to a folder.

```
an embedder or a composition                         CclmModel
a component trained on masked_characters             CclmForMaskedLM, with its head
a component trained on next_characters               CclmForCausalLM, with its head
a component trained on entities                      CclmForTokenClassification, with its head
another component                                    CclmModel: its features
the model of a task                                  CclmForSequenceClassification or CclmForTokenClassification
any of them with `task` and `labels`                 a model with a new head, to fine-tune
```
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from cclm_core.applications.trained import TrainedComponent
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import kind_of, load_base, load_component
from cclm_core.encoders.embedder import Base
from cclm_core.finetuning.any_model import AnyTaskModel
from cclm_core.finetuning.model import TaskModel
from cclm_core.finetuning.ngram_model import NgramsModel
from cclm_core.finetuning.store import CARD as TASK_CARD
from cclm_core.finetuning.store import load_task
from cclm_core.heads.tags import TagsConfig
from cclm_core.heads.texts import TextHeadConfig
from cclm_core.huggingface.classifiers import CclmForSequenceClassification, CclmForTokenClassification
from cclm_core.huggingface.configuration import config_of
from cclm_core.huggingface.language_models import CclmForCausalLM, CclmForMaskedLM
from cclm_core.huggingface.modeling import CclmModel, CclmPreTrainedModel
from cclm_core.huggingface.tokenizer import CclmTokenizer, tokenizer_from
from cclm_core.objectives.base import HEAD, Objective
from cclm_core.objectives.entities import Entities
from cclm_core.objectives.masked_characters import MaskedCharacters
from cclm_core.objectives.next_characters import NextCharacters
from cclm_core.pretraining.pretrainer import Pretrainer
from cclm_core.pretraining.saved import read_component
from cclm_core.runtime.config import nearest
from cclm_core.runtime.errors import ArtifactError, ConfigError
from cclm_core.runtime.files import StrPath, as_path

Source = Base | AnyTaskModel | TrainedComponent | Pretrainer | StrPath
"""What can be converted: a model, the model of a task, a component with its head, a fitted pretrainer, or a folder."""

Task = Literal["features", "masked-lm", "causal-lm", "sequence-classification", "token-classification"]

_CLASSES: dict[str, type[CclmPreTrainedModel]] = {
    "features": CclmModel,
    "masked-lm": CclmForMaskedLM,
    "causal-lm": CclmForCausalLM,
    "sequence-classification": CclmForSequenceClassification,
    "token-classification": CclmForTokenClassification,
}


class Parts(NamedTuple):
    """A model taken apart.

    Attributes:
        encoder: the encoder; not changed.
        task: the task of its head.
        head: name -> tensor, the trained weights outside of the encoder; empty for a new head.
        values: attributes of the configuration.
    """

    encoder: Base
    task: str
    head: Mapping[str, Tensor]
    values: Mapping[str, Any]


def from_cclm(
    source: Source,
    task: Task | None = None,
    *,
    base: StrPath | None = None,
    labels: Sequence[str] | None = None,
    drop_ngrams: bool = False,
    **values: Any,
) -> CclmPreTrainedModel:
    """Converts a model. The result has its own copy of the weights, in evaluation mode, all of them trainable.

    Args:
        source: an embedder, a composition, a fitted pretrainer, a component loaded with `load_trained`, or the folder
            of a published model.
        task: the head; None for the trained head of a component, if it has one that transformers knows, otherwise
            `features`. Another head than the trained one is new.
        base: the folder of the base, for the folder of a component.
        labels: the labels of a classifier, in the order of its outputs.
        drop_ngrams: whether to convert the network of a task without its n-grams, which transformers cannot run.
        values: further attributes of the configuration, e.g. `problem_type="regression"` or `pair=True`.

    Raises:
        ConfigError: an unknown task, labels without a classifier, or a task with n-grams and no `drop_ngrams`.
        ArtifactError: a folder is missing or damaged, or `base` is missing.
        CompositionError: a component was trained on another base, or `causal-lm` with an encoder that is not causal.
    """
    if task is not None and task not in _CLASSES:
        raise ConfigError(f"`task` must be one of {', '.join(_CLASSES)}, got {task!r:.80}; {nearest(task, _CLASSES)}")
    parts = _parts(source, base, drop_ngrams)
    head = parts.head if task in (None, parts.task) else {}
    name = task or parts.task
    if labels is not None:
        if not name.endswith("-classification"):
            raise ConfigError(f"`labels` needs a task of classification, got {name}. Set `task`.")
        values = _label_values(labels) | values
    config = config_of(parts.encoder, **(dict(parts.values) | values))
    model: CclmPreTrainedModel = _CLASSES[name](config)
    weights = parts.encoder.state_dict()
    model.to(next(iter(weights.values())).dtype)
    model.base_model.encoder.load_state_dict(weights)
    if head:
        unexpected = model.load_state_dict(dict(head), strict=False).unexpected_keys
        assert not unexpected, f"the head of {name} has no {unexpected}"
    model.eval()
    return model


def to_cclm(model: CclmPreTrainedModel) -> Base:
    """The encoder of a model as an `Embedder` or a `ComposedModel`, e.g. after fine-tuning. Heads are left out.

    The result is a copy on the CPU, ready for `cclm_core.save`.
    """
    encoder: Base = copy.deepcopy(model.base_model.encoder).cpu()
    encoder.adopt_base()
    if isinstance(encoder, ComposedModel):
        encoder.train_base = False
    return encoder.eval()


def tokenizer_of(model: CclmPreTrainedModel) -> CclmTokenizer:
    """The tokenizer of a model: with a separator before each text for a model of the next character.

    For a masked language model, `[MASK]` in a text is the mask. For all others it is ordinary text.
    """
    frame: Literal["generation", "text"] = "generation" if isinstance(model, CclmForCausalLM) else "text"
    is_masked = isinstance(model, CclmForMaskedLM)
    return tokenizer_from(model.base_model.encoder.preprocessor, frame, split_special_tokens=not is_masked)


def _parts(source: Source, base: StrPath | None, drop_ngrams: bool) -> Parts:
    if base is not None and isinstance(source, Base | AnyTaskModel | TrainedComponent | Pretrainer):
        raise ConfigError(f"`base` is for the folder of a component, got a {type(source).__name__}. Leave it out.")
    match source:
        case Base():
            return Parts(source, "features", {}, {})
        case AnyTaskModel():
            return _any_task(source, drop_ngrams)
        case TrainedComponent():
            over = source.encoder
            return _trained(over.base, over.component, source.objective, source.window)
        case Pretrainer():
            return _trained(source.embedder, source.model, source.objective, source._window)
    folder = as_path(source)
    if (folder / TASK_CARD).is_file():
        return _any_task(load_task(folder), drop_ngrams)
    return _from_folder(folder, None if base is None else as_path(base))


def _trained(base: Base, component: Component, objective: Objective | None, window: int | None) -> Parts:
    """A component with its base as a composition of one part, and its head if transformers knows its task."""
    component.card.check(base)
    encoder = ComposedModel(base, [component], component.name)
    match objective:
        case MaskedCharacters():
            head = {f"lm_head.{name}": tensor for name, tensor in objective.head.state_dict().items()}
            return Parts(encoder, "masked-lm", head, {})
        case NextCharacters() if encoder.causal:
            # The head can predict several characters ahead; only the next one is used.
            head = {f"lm_head.{name}": some[: objective.num_ids] for name, some in objective.head.state_dict().items()}
            return Parts(encoder, "causal-lm", head, {"context_length": window})
        case Entities():
            head = {f"classifier.{name}": tensor for name, tensor in objective.head.state_dict().items()}
            tags = ["O", *(f"{prefix}-{label}" for label in objective.labels for prefix in "BI")]
            return Parts(encoder, "token-classification", head, _label_values(tags))
    return Parts(encoder, "features", {}, {})


def _any_task(model: AnyTaskModel, drop_ngrams: bool) -> Parts:
    """The network of a task, if that is what it consists of."""
    if isinstance(model, TaskModel):
        return _task(model, drop_ngrams)
    what = "counted n-grams" if isinstance(model, NgramsModel) else "an ensemble of several models"
    raise ConfigError(
        f"{model.name} is {what}, which transformers cannot run. Export a task with a network, such as a part of "
        "the ensemble, or serve it with `cclm serve`."
    )


def _task(model: TaskModel, drop_ngrams: bool) -> Parts:
    """The network of a task."""
    card, head = model.card, model.head
    if card.ngram_weight and not drop_ngrams:
        raise ConfigError(
            f"the task {card.name!r} adds character n-grams to its network, which transformers cannot run. Set "
            "`drop_ngrams=True` (--drop-ngrams) to export the network alone, or train with `ngrams: null`."
        )
    config = head.config
    assert isinstance(config, TextHeadConfig | TagsConfig)
    values: dict[str, Any] = {
        "window": card.max_characters,
        "classifier_norm": config.norm,
        "classifier_dropout": config.dropout,
    }
    weights = {name.replace("linear.", "classifier."): tensor for name, tensor in head.state_dict().items()}
    if isinstance(config, TagsConfig):
        tags = ["O", *(f"{prefix}-{label}" for label in card.labels for prefix in "BI")]
        values |= {
            "tag_unit": config.unit,
            "tag_transitions": config.transitions == "learned",
            "tag_word_layers": config.num_word_layers,
            "tag_word_width": config.word_width,
        }
        values |= _label_values(tags)
        return Parts(model.encoder, "token-classification", weights, values)
    similarities = card.is_pair and bool(config.similarities)
    values |= {"pooling": config.pooling, "pair": card.is_pair, "pair_similarities": similarities}
    if card.task == "regress":  # the head predicts the standardized value
        weights["classifier.weight"] = weights["classifier.weight"] * card.deviation
        weights["classifier.bias"] = weights["classifier.bias"] * card.deviation + card.mean
        values |= {"problem_type": "regression"} | _label_values(["value"])
    else:
        kind = "multi_label_classification" if card.task == "multilabel" else "single_label_classification"
        values |= {"problem_type": kind} | _label_values(card.labels)
    return Parts(model.encoder, "sequence-classification", weights, values)


def _from_folder(folder: Path, base: Path | None) -> Parts:
    if not folder.is_dir():
        raise ArtifactError(f"{folder} not found. Name the folder of a base, a component or a composition.")
    kind = kind_of(folder)
    if kind != "component":
        return Parts(load_base(folder), "features", {}, {})
    if base is None:
        raise ArtifactError(
            f"{folder} is a component, which needs its base (default of the pipeline: models/base). Name it as `base`."
        )
    loaded_base = load_base(base)
    if not (folder / HEAD).is_file():
        return _trained(loaded_base, load_component(folder), None, None)
    saved = read_component(folder, loaded_base)
    return _trained(loaded_base, saved.component, saved.objective, saved.config.training.window)


def _label_values(labels: Sequence[str]) -> dict[str, Any]:
    ids = {label: index for index, label in enumerate(labels)}
    if len(ids) < len(labels) or isinstance(labels, str):
        raise ConfigError(f"`labels` must be a list of distinct names, got {labels!r:.200}.")
    return {"id2label": dict(enumerate(labels)), "label2id": ids}
