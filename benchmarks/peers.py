"""Peers of the default base: encoders of about the same size, with random weights."""

from typing import Any

import torch
from rows import exit_without_peer
from torch import Tensor, nn

from cclm_core.encoders import EmbeddingConfig
from cclm_core.encoders.attention import AttentionConfig
from cclm_core.encoders.embedder import EmbedderConfig

LENGTH = 256  # characters: the number of positions of `Original`
ATTENTION = EmbedderConfig(
    embedding=EmbeddingConfig(width=256, ngram_sizes=()), encoder=AttentionConfig(num_layers=16, width=256)
)


class Original(nn.Module):
    """The embedder of cclm 0.1.2, with 5 blocks of 512 filters and 64 global features.

    Source: https://pypi.org/project/cclm/.
    """

    def __init__(self, num_ids: int, width: int = 512, blocks: int = 5, side: int = 64, embedded: int = 128) -> None:
        super().__init__()
        self.characters, self.positions = nn.Embedding(num_ids, embedded), nn.Embedding(LENGTH, embedded)
        self.width, inputs = width, [embedded, *[width] * (blocks - 1)]
        self.first = nn.ModuleList(nn.Conv1d(size, width, 3, padding=1) for size in inputs)
        self.second = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in inputs)
        self.third = nn.ModuleList(nn.Conv1d(width + side, width, 3, padding=1) for _ in inputs)
        self.side = nn.ModuleList(nn.Linear(width, side) for _ in inputs)

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) as (B, L, 512)."""
        hidden = (self.characters(ids) + self.positions.weight[: ids.shape[1]]).transpose(1, 2)
        for first, second, third, side in zip(self.first, self.second, self.third, self.side, strict=True):
            residual = nn.functional.leaky_relu(first(hidden), 0.1)
            hidden = nn.functional.dropout(residual, 0.25, self.training)
            hidden = nn.functional.leaky_relu(second(hidden), 0.1)
            pooled = torch.relu(side(hidden.amax(-1)))[..., None].expand(-1, -1, hidden.shape[-1])
            hidden = residual + nn.functional.leaky_relu(third(torch.cat([hidden, pooled], 1)), 0.1)
        return hidden.transpose(1, 2)


class Canine(nn.Module):
    """CANINE from transformers: 12 layers of width 256, downsampling by 4, local attention."""

    def __init__(self) -> None:
        try:
            from transformers import CanineConfig, CanineModel
        except ImportError as error:
            exit_without_peer(error)
        super().__init__()
        sizes: dict[str, Any] = {"hidden_size": 256, "num_hidden_layers": 12, "num_attention_heads": 4}
        sizes |= {"intermediate_size": 1024, "num_hash_buckets": 4096, "max_position_embeddings": 2048}
        self.model, self.width = CanineModel(CanineConfig(**sizes), add_pooling_layer=False), 256

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) as (B, L, 256)."""
        features: Tensor = self.model(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
        return features
