"""Saving and loading the model of a task.

```
task.json                          labels, head and settings
encoder/                           the embedder or the composition; see composition/store.py
head.safetensors                   the weights of the head
ngrams.json  ngrams.safetensors    the n-grams, if any
```
"""

from pathlib import Path

from cclm_core.composition import store as models
from cclm_core.encoders.embedder import Base
from cclm_core.encoders.weights import load_weights, save_weights
from cclm_core.finetuning.model import TaskCard, TaskModel
from cclm_core.finetuning.ngrams import Ngrams
from cclm_core.runtime.artifacts import MANIFEST, publishing, read_json, verify, write_json
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.files import StrPath, as_path
from cclm_core.runtime.initialization import without_storage

KIND = "task"
CARD, HEAD, ENCODER = "task.json", "head.safetensors", "encoder"


def save_task(model: TaskModel, folder: StrPath) -> None:
    """Publishes the model of a task at `folder`; see `composition.store.save`."""
    with publishing(folder, KIND) as target:
        write_task(model, target)


def write_task(model: TaskModel, folder: Path) -> None:
    """Writes the files of a model into an existing folder that is being published."""
    write_json(folder / CARD, model.card.canonical())
    (folder / ENCODER).mkdir()
    models.write(model.encoder, folder / ENCODER)
    save_weights(model.head.state_dict(), folder / HEAD)
    if model.ngrams is not None and model.card.ngram_weight:
        model.ngrams.save(folder)


def load_task(folder: StrPath) -> TaskModel:
    """Reads the model of a task, in evaluation mode. Every file is checked first.

    Raises:
        ArtifactError: a file is missing or damaged, or it is another kind of artifact.
        IntegrityError: a file was altered.
    """
    folder = as_path(folder, "folder")
    if (folder / MANIFEST).is_file() or not (folder / CARD).is_file():
        verify(folder, KIND)
    path = folder / CARD
    card = TaskCard.parse(read_json(path), str(path))
    encoder = models.load(folder / ENCODER)
    if not isinstance(encoder, Base):
        raise ArtifactError(f"{folder / ENCODER} must be an embedder or a composition. Train the task again.")
    with without_storage():
        head = card.head.build(card.context(encoder))
    load_weights(head, folder / HEAD)
    ngrams = Ngrams.load(folder, card.labels) if card.ngram_weight else None
    model = TaskModel(card, encoder, head, ngrams)
    return model.requires_grad_(False).eval()
