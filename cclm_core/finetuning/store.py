"""Saving and loading the model of a task.

```
task.json                          its kind (`format`), labels and settings

a network:
encoder/                           the embedder or the composition; see composition/store.py
head.safetensors                   the weights of the head
ngrams.json  ngrams.safetensors    the n-grams, if any

n-grams alone:
ngrams.json  ngrams.safetensors    the n-grams and their weights

an ensemble:
parts/NAME/                        the files of each part, as above
familiarity.safetensors            counted n-grams that estimate the noise of a text, if the weights depend on it
```
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cclm_core.composition import store as models
from cclm_core.encoders.embedder import Base
from cclm_core.encoders.weights import load_weights, save_weights
from cclm_core.finetuning.any_model import AnyTaskModel
from cclm_core.finetuning.ensemble import Ensemble, EnsembleCard
from cclm_core.finetuning.familiarity import Familiarity
from cclm_core.finetuning.model import TaskCard, TaskModel
from cclm_core.finetuning.ngram_model import NgramsCard, NgramsModel
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.finetuning.tag_ngrams import TagNgrams
from cclm_core.runtime.artifacts import MANIFEST, publishing, read_json, verify, write_json
from cclm_core.runtime.blocks import code_in
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.files import StrPath, as_path
from cclm_core.runtime.initialization import without_storage
from cclm_core.runtime.own_code import carried, write_code

KIND = "task"
CARD, HEAD, ENCODER, PARTS = "task.json", "head.safetensors", "encoder", "parts"


def save_task(model: AnyTaskModel, folder: StrPath) -> None:
    """Publishes the model of a task at `folder`; see `composition.store.save`."""
    with publishing(folder, KIND) as target:
        write_task(model, target)


def write_task(model: AnyTaskModel, folder: Path) -> None:
    """Writes the files of a model into an existing folder that is being published."""
    write_json(folder / CARD, model.card.canonical())
    match model:
        case TaskModel():
            write_code(folder, code_in(model.card.head))
            (folder / ENCODER).mkdir()
            models.write(model.encoder, folder / ENCODER)
            save_weights(model.head.state_dict(), folder / HEAD)
            if model.ngrams is not None and model.card.ngram_weight:
                model.ngrams.save(folder)
        case NgramsModel():
            model.save(folder)
        case Ensemble():
            for name, part in model.named_parts():
                (folder / PARTS / name).mkdir(parents=True)
                write_task(part, folder / PARTS / name)
            if model.familiarity is not None:
                model.familiarity.save(folder)
        case _:
            raise AssertionError(f"no format for {type(model).__name__}")


def load_task(folder: StrPath) -> AnyTaskModel:
    """Reads the model of a task, in evaluation mode: a network, n-grams or an ensemble. Every file is checked first.

    Raises:
        ArtifactError: a file is missing or damaged, or it is another kind of artifact.
        IntegrityError: a file was altered.
    """
    folder = as_path(folder, "folder")
    if (folder / MANIFEST).is_file() or not (folder / CARD).is_file():
        verify(folder, KIND)
    path = folder / CARD
    values = read_json(path)
    kind = values.get("format") if isinstance(values, dict) else None
    if kind not in _LOADERS:
        raise ArtifactError(
            f"{path} must have a format among {', '.join(_LOADERS)}, got {kind!r:.80}. Train the task again, or "
            "install the version of CCLM that wrote it."
        )
    return _LOADERS[kind](folder, values).requires_grad_(False).eval()


def data_of(folder: Path) -> str:
    """The name of the labeled set that the stage `finetune` trained a task on.

    Raises:
        ArtifactError: the folder has no card of that stage.
    """
    path = folder / "card.json"
    configuration = read_json(path).get("configuration") if path.is_file() else None
    if not isinstance(configuration, dict) or not isinstance(configuration.get("data"), str):
        raise ArtifactError(f"{path} must name the `data` of the task. Run `cclm run --target finetune@{folder.name}`.")
    return str(configuration["data"])


def _network(folder: Path, values: Mapping[str, Any]) -> TaskModel:
    with carried(folder):
        card = TaskCard.parse(values, str(folder / CARD))
    encoder = models.load(folder / ENCODER)
    if not isinstance(encoder, Base):
        raise ArtifactError(f"{folder / ENCODER} must be an embedder or a composition. Train the task again.")
    with without_storage():
        head = card.head.build(card.context(encoder))
    load_weights(head, folder / HEAD)
    kind = TagNgrams if card.task == "tag" else Ngrams
    ngrams = kind.load(folder, card.labels) if card.ngram_weight else None
    return TaskModel(card, encoder, head, ngrams)


def _ngrams(folder: Path, values: Mapping[str, Any]) -> NgramsModel:
    return NgramsModel.load(NgramsCard.parse(values, str(folder / CARD)), folder)


def _ensemble(folder: Path, values: Mapping[str, Any]) -> Ensemble:
    card = EnsembleCard.parse(values, str(folder / CARD))
    parts = [load_task(folder / PARTS / name) for name in card.parts]
    return Ensemble(card, parts, Familiarity.load(folder) if card.weights.slope else None)


_LOADERS: dict[str, Callable[[Path, Mapping[str, Any]], AnyTaskModel]] = {
    "cclm-task-1": _network,
    "cclm-ngrams-1": _ngrams,
    "cclm-ensemble-1": _ensemble,
}
"""The format in task.json -> the function that reads such a model."""
