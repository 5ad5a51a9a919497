"""Character embeddings: a table of characters, plus hashed tables of the n-grams ending at each character."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cclm_core.encoders.ids import check_range
from cclm_core.runtime.config import Config

_INIT_STD = 0.05
"""Standard deviation of initial vectors. Adam changes every weight by about the learning rate, whatever its size, so
small initial values are soon forgotten. After equal processor time, 3.14 bits per masked character, against 3.44 for
vectors whose sum has standard deviation 1, and 1.67 against 1.83 bits per next character (60 and 110 s, one seed)."""

_MAX_TABLES = 2**31  # numbers in all tables of one embedding, 8 GiB in float32

_MULTIPLIER = 0x9E3779B1  # 2**32 divided by the golden ratio: Fibonacci hashing (Knuth, TAOCP 6.4)


class EmbeddingConfig(Config):
    """Character embeddings with hashed n-grams.

    The tables need memory but little time: each character reads one row of each. `benchmarks/quality.py` measures the
    gain.
    """

    causal: ClassVar[bool] = True
    """The features of a character depend only on it and earlier ones."""

    # Left out of cards, which had no kind when there was only one.
    kind: Literal["characters"] = Field(default="characters", exclude=True)
    width: int = Field(default=128, ge=8, le=8192, description="features per character")
    ngram_sizes: tuple[int, ...] = Field(
        default=(2, 3), max_length=8, description="characters per hashed n-gram, 2 to 8; at most 8 tables"
    )
    ngram_buckets: int = Field(default=16384, ge=16, le=2**24, description="rows of each n-gram table")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if any(not 2 <= size <= 8 for size in self.ngram_sizes):
            raise ValueError(f"ngram_sizes must be between 2 and 8, got {self.ngram_sizes}")
        size = len(self.ngram_sizes) * self.ngram_buckets * self.width
        if size > _MAX_TABLES:
            raise ValueError(
                f"the n-gram tables must have at most {_MAX_TABLES} numbers together, got {size}: number of "
                "ngram_sizes * ngram_buckets * width. Lower one of them"
            )
        return self


class CharacterEmbedding(nn.Module):
    """The sum of a character's own vector and one vector for each n-gram that ends at it.

    Args:
        num_ids: size of the vocabulary, including special ids and bytes; id 0 is padding.
        config: widths and n-gram tables.

    Source: hashed n-grams over characters as in BLT (Pagnoni et al. 2024, arXiv 2412.09871, section 3.2.1).
    """

    def __init__(self, num_ids: int, config: EmbeddingConfig) -> None:
        super().__init__()
        self.config = config
        self.characters = nn.Embedding(num_ids, config.width)
        self.ngrams = nn.ModuleList(nn.Embedding(config.ngram_buckets, config.width) for _ in config.ngram_sizes)
        for table in (self.characters, *self.ngrams):
            assert isinstance(table, nn.Embedding)
            nn.init.normal_(table.weight, std=_INIT_STD)

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64 as (B, L, D). Padding is embedded as well and must be masked by the caller."""
        check_range(ids, self.characters.num_embeddings)
        features: Tensor = self.characters(ids)
        for size, table in zip(self.config.ngram_sizes, self.ngrams, strict=True):
            features = features + table(self._buckets(ids, size))
        return features

    def _buckets(self, ids: Tensor, size: int) -> Tensor:
        """The bucket (B, L) of the n-gram of `size` characters ending at each position, left-padded with 0."""
        hashed = torch.zeros_like(ids)
        for back in range(size):
            shifted = nn.functional.pad(ids, (back, 0))[:, : ids.shape[1]]
            hashed = (hashed * 1000003 + shifted + 1) & 0xFFFFFFFF
        return ((hashed * _MULTIPLIER) & 0xFFFFFFFF) % self.config.ngram_buckets
