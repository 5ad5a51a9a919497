"""Character encoders, and the embedder that components share."""

from cclm_core.encoders.catalogue import *  # noqa: F403  only the catalogue lists the encoders
from cclm_core.encoders.embedder import Embedder as Embedder
from cclm_core.encoders.embedder import EmbedderConfig as EmbedderConfig
from cclm_core.encoders.embedding import EmbeddingConfig as EmbeddingConfig
from cclm_core.encoders.store import load_embedder as load_embedder
from cclm_core.encoders.store import save_embedder as save_embedder
