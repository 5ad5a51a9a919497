"""Saving and loading an embedder.

```
embedder.json            the configuration
embedder.safetensors     the weights
preprocessor.json        the vocabulary
embedding/               words or tokenizer of a pretrained embedding
code/                    the code of your own building blocks, if it uses any; see runtime/own_code.py
```
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.encoders.pretrained.catalogue import read_embedding, write_embedding
from cclm_core.encoders.weights import load_weights, save_weights
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.blocks import code_in
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.initialization import without_storage
from cclm_core.runtime.own_code import carried, write_code
from cclm_core.text.vocabulary import Preprocessor

CARD = "embedder.json"
"""The file that marks a folder as an embedder."""

PREPROCESSOR = "preprocessor.json"
WEIGHTS = "embedder.safetensors"
FROZEN = "frozen"
"""The key of a card that lists frozen weights; left out if there are none."""


def save_embedder(embedder: Embedder, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Writes an embedder and its vocabulary into an existing folder.

    Args:
        embedder: the embedder.
        folder: the folder.
        facts: keys to add to its card; if None, those that list frozen weights.
    """
    embedder.preprocessor.save(folder / PREPROCESSOR)
    save_weights(embedder.state_dict(), folder / WEIGHTS)
    write_embedding(embedder.embedding, folder)
    write_code(folder, code_in(embedder.config))
    added = frozen_key(embedder) if facts is None else facts
    write_json(folder / CARD, {**embedder.config.canonical(), **added})


def load_embedder(folder: Path) -> Embedder:
    """Reads the embedder in a folder. Weights that were frozen when it was saved are frozen.

    Raises:
        ArtifactError: a file is missing or damaged.
        ConfigError: `embedder.json` has an unknown key or an invalid value.
    """
    path = folder / CARD
    values, frozen = read_card(path)
    with carried(folder):
        config = EmbedderConfig.parse(values, str(path))
    preprocessor = Preprocessor.load(folder / PREPROCESSOR)
    with without_storage():
        embedder = Embedder(preprocessor, config, embedding=read_embedding(config.embedding, folder))
    load_weights(embedder, folder / WEIGHTS)
    freeze_weights(embedder, frozen, path)
    return embedder


def frozen_key(module: nn.Module, except_for: Collection[int] = ()) -> dict[str, Any]:
    """The key `frozen` of a card: true if all weights are frozen, their names if some are; no key if none is.

    Args:
        module: the saved module.
        except_for: `id` of parameters to leave out.
    """
    trained = {
        name: parameter.requires_grad
        for name, parameter in module.named_parameters()
        if id(parameter) not in except_for
    }
    frozen = [name for name, is_trained in trained.items() if not is_trained]
    if not frozen:
        return {}
    return {FROZEN: True if len(frozen) == len(trained) else frozen}


def read_card(path: Path) -> tuple[dict[str, Any], bool | tuple[str, ...]]:
    """Reads a card: its keys without `frozen`, and the value of `frozen`.

    Raises:
        ArtifactError: the file is missing, is not a JSON object, or `frozen` is neither true nor a list of names.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise ArtifactError(f"{path} must hold a JSON object, got {values!r:.80}. Run the stage that creates it.")
    frozen = values.pop(FROZEN, False)
    if isinstance(frozen, list) and all(isinstance(name, str) for name in frozen):
        return values, tuple(frozen)
    if not isinstance(frozen, bool):
        raise ArtifactError(f"{path}: `{FROZEN}` must be true or a list of names of weights, got {frozen!r:.80}.")
    return values, frozen


def freeze_weights(module: nn.Module, frozen: bool | Iterable[str], path: Path) -> None:
    """Freezes the weights of a module that the card at `path` names, or all of them.

    Raises:
        ArtifactError: the module has no weight of that name.
    """
    if isinstance(frozen, bool):
        if frozen:
            module.requires_grad_(False).eval()
        return
    parameters = dict(module.named_parameters())
    for name in frozen:
        if name not in parameters:
            raise ArtifactError(f"{path}: `{FROZEN}` names {name!r:.80}, which is no weight of this model. Remove it.")
        parameters[name].requires_grad_(False)
