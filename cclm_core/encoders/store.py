"""Saving and loading an embedder.

```
embedder.json            the configuration
embedder.safetensors     the weights
preprocessor.json        the vocabulary
```
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cclm_core.encoders.embedder import Embedder, EmbedderConfig
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.errors import ArtifactError
from cclm_core.text.vocabulary import Preprocessor

CARD = "embedder.json"
"""The file that marks a folder as an embedder."""

PREPROCESSOR = "preprocessor.json"
WEIGHTS = "embedder.safetensors"


def save_embedder(embedder: Embedder, folder: Path) -> None:
    """Writes an embedder and its vocabulary into an existing folder."""
    embedder.preprocessor.save(folder / PREPROCESSOR)
    save_weights(embedder.state_dict(), folder / WEIGHTS)
    write_json(folder / CARD, embedder.config.canonical())


def load_embedder(folder: Path) -> Embedder:
    """Reads the embedder in a folder.

    Raises:
        ArtifactError: a file is missing or damaged.
        ConfigError: `embedder.json` has an unknown key or an invalid value.
    """
    path = folder / CARD
    config = EmbedderConfig.parse(read_json(path), str(path))
    embedder = Embedder(Preprocessor.load(folder / PREPROCESSOR), config)
    load_weights(embedder, folder / WEIGHTS)
    return embedder


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Writes named tensors as a safetensors file."""
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)


def load_weights(module: nn.Module, path: Path, extra: Mapping[str, Tensor] | None = None) -> None:
    """Loads a safetensors file into a module.

    Args:
        module: changed in place.
        path: the file.
        extra: weights of the module that are stored in other files.

    Raises:
        ArtifactError: the file is missing or damaged, or its names or shapes do not match the module.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} not found. Run the stage that creates it.")
    try:
        module.load_state_dict({**load_file(path), **(extra or {})})
    except (SafetensorError, RuntimeError) as error:  # torch reports missing tensors and wrong shapes as RuntimeError
        raise ArtifactError(
            f"{path} does not contain all weights of {type(module).__name__}: {error}. Run the stage that creates it "
            "again, or restore the file."
        ) from None
