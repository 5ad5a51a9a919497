"""The embeddings, by `kind`. To add one: a module with its configuration and class, two lines here, and a test."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag
from torch import nn

from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.encoders.embedding import EmbeddingConfig as EmbeddingConfig
from cclm_core.encoders.pretrained.base import FOLDER
from cclm_core.encoders.pretrained.base import PretrainedConfig as PretrainedConfig
from cclm_core.encoders.pretrained.base import PretrainedEmbedding as PretrainedEmbedding
from cclm_core.encoders.pretrained.checkpoint import HuggingFaceConfig as HuggingFaceConfig
from cclm_core.encoders.pretrained.vectors import VectorsConfig as VectorsConfig
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import CompositionError


def _kind(value: Any) -> str:
    """The kind of a configuration, a mapping or an object. The default is `characters`."""
    kind = value.get("kind", "characters") if isinstance(value, dict) else getattr(value, "kind", value)
    return str(kind)


AnyEmbeddingConfig = Annotated[
    Annotated[EmbeddingConfig, Tag("characters")]
    | Annotated[HuggingFaceConfig, Tag("huggingface")]
    | Annotated[VectorsConfig, Tag("vectors")],
    Discriminator(_kind),
]
"""Any embedding. This union is the catalogue: the contract tests run over its members."""


def build_embedding(
    config: AnyEmbeddingConfig, num_ids: int, read: PretrainedEmbedding | None = None
) -> tuple[AnyEmbeddingConfig, CharacterEmbedding | PretrainedEmbedding]:
    """An embedding, and its configuration for a card.

    Args:
        config: the configuration. If it has a source, the source is read.
        num_ids: size of the vocabulary.
        read: the pretrained embedding that was read from a saved model, for a configuration without a source.

    Raises:
        CompositionError: a configuration without a source, and no embedding was read, or one that is not needed.
        CclmError: see `PretrainedConfig.open`.
    """
    if isinstance(config, PretrainedConfig) and config.source is None:
        if read is None:
            raise CompositionError(
                f"the files of the embedding {config.kind} with the SHA-256 {str(config.sha256)[:12]} are missing. "
                "Load the saved model, or name a `source`."
            )
        read.for_vocabulary(num_ids)
        return config, read
    if read is not None:
        raise CompositionError(f"an embedding of kind {config.kind} is built from its configuration. Omit `embedding`.")
    if not isinstance(config, PretrainedConfig):
        return config, CharacterEmbedding(num_ids, config)
    own, embedding = config.open()
    embedding.for_vocabulary(num_ids)
    return own, embedding


def read_embedding(config: Config, folder: Path) -> PretrainedEmbedding | None:
    """The pretrained embedding in the folder of a saved model, without its weights; None for characters.

    Raises:
        ArtifactError: a file is missing or damaged.
        MissingExtraError: an optional dependency is not installed.
    """
    return config.load(folder / FOLDER) if isinstance(config, PretrainedConfig) else None


def write_embedding(embedding: nn.Module | None, folder: Path) -> None:
    """Writes the files of a pretrained embedding into the folder of a model; nothing for other embeddings."""
    if isinstance(embedding, PretrainedEmbedding):
        (folder / FOLDER).mkdir()
        embedding.write_files(folder / FOLDER)
