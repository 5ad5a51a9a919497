"""Encoders of characters, and the embedder that components share."""

from cclm_core.encoders.catalogue import *  # noqa: F403  the encoders are listed in the catalogue, and only there
from cclm_core.encoders.embedder import Embedder as Embedder
from cclm_core.encoders.embedder import EmbedderConfig as EmbedderConfig
from cclm_core.encoders.embedding import EmbeddingConfig as EmbeddingConfig
