"""Static word vectors as an embedding: the vector of each word at each of its characters."""

import re
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cclm_core.encoders.base import at_least_float32
from cclm_core.encoders.embedding import CharacterEmbedding, EmbeddingConfig
from cclm_core.encoders.pretrained.base import PretrainedConfig, PretrainedEmbedding, not_compiled
from cclm_core.encoders.pretrained.lookups import Lookup, read_lookup
from cclm_core.encoders.pretrained.rows import TextRows
from cclm_core.encoders.pretrained.vector_files import Files, find_files, read_vectors
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.words import APOSTROPHES, RUN, with_apostrophes

_WORD = re.compile(rf"{with_apostrophes(RUN)}|[^\w\s]")
_RUN_OR_MARK = re.compile(rf"{RUN}|[^\w\s]")


class VectorsConfig(PretrainedConfig):
    """Static word vectors; `vector_files.py` has the formats."""

    kind: Literal["vectors"] = "vectors"
    max_words: int | None = Field(
        default=None,
        ge=1,
        description="words to keep, the first ones of the file; null: all. Only for one row per word",
    )
    projection: int | None = Field(
        default=None, ge=1, le=8192, description="features after a trained linear layer; null: the vectors themselves"
    )
    characters: EmbeddingConfig | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="a trained embedding of characters that is added to the vectors, of the same width; null: none",
    )
    rows: int | None = Field(default=None, description="rows of the table; null until the source is read")
    columns: int | None = Field(default=None, description="numbers per row; null until the source is read")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source is None and (self.rows is None or self.columns is None):
            raise ValueError("rows and columns are missing. Name a source, or restore the card")
        return self

    @property
    def is_trained(self) -> bool:
        """Whether any weight is trained: those of the projection, or those of characters."""
        return self.projection is not None or self.characters is not None

    def open(self) -> "tuple[Self, VectorEmbedding]":
        """See `PretrainedConfig.open`."""
        files = find_files(str(self.source))
        digest = self.checked(files.digest())
        lookup, table = read_vectors(files, self.max_words)
        rows, columns = table.shape
        width = self.projection or columns
        if self.characters is not None and self.characters.width != width:
            raise ConfigError(
                f"embedding.characters.width must be {width}, the width of the vectors that they are added to, got "
                f"{self.characters.width}. Change it, or set `projection: {self.characters.width}`."
            )
        update = {"source": None, "sha256": digest, "width": width, "rows": rows, "columns": columns}
        config = self.model_copy(update=update)
        embedding = VectorEmbedding(config, lookup)
        embedding.table = torch.from_numpy(table)
        return config, embedding

    def load(self, folder: Path) -> "VectorEmbedding":
        """See `PretrainedConfig.load`."""
        return VectorEmbedding(self, read_lookup(folder))

    def digest(self) -> str:
        """See `PretrainedConfig.digest`."""
        return self.files().digest()

    def files(self) -> Files:
        """The files of the source."""
        return find_files(str(self.source))


class VectorEmbedding(PretrainedEmbedding):
    """Copies the vector of each word to its characters.

    A word is a run of letters and digits, with single apostrophes inside, or one punctuation mark. If a word with an
    apostrophe has no vector, its parts are words. Words without a vector and spaces get zeros. The trained embedding of
    characters, if there is one, is added.

    Args:
        config: with `rows`, `columns` and `width`.
        lookup: finds words in the table.
    """

    table: Tensor

    def __init__(self, config: VectorsConfig, lookup: Lookup) -> None:
        super().__init__()
        assert config.rows is not None and config.columns is not None and config.width is not None
        self.config, self.lookup, self.width = config, lookup, config.width
        self.register_buffer("table", torch.empty(config.rows, config.columns))
        is_projected = config.projection is not None
        self.projection = nn.Linear(config.columns, config.width, bias=False) if is_projected else None
        self.characters: CharacterEmbedding | None = None

    def for_vocabulary(self, num_ids: int) -> None:
        """Creates the embedding of characters, unless it exists."""
        if self.config.characters is not None and self.characters is None:
            self.characters = CharacterEmbedding(num_ids, self.config.characters)

    def write_files(self, folder: Path) -> None:
        """Writes the words, or how they are found."""
        self.lookup.write(folder)

    @not_compiled
    def forward(self, rows: TextRows) -> Tensor:
        """Features (B, L, width); see the class."""
        words, spans = [], []
        first = 0
        for text in rows.texts:
            for start, stop in word_spans(text, self.lookup):
                words.append(text[start:stop])
                spans.append((first + start, first + stop))
            first += len(text)
        numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
        vectors, _ = self.lookup.vectors(list(numbers), self.table)
        features = at_least_float32(vectors if self.projection is None else self.projection(vectors))
        # The last row is that of characters outside of words.
        owners = np.full(first, len(numbers), dtype=np.int64)
        for word, (start, stop) in zip(words, spans, strict=True):
            owners[start:stop] = numbers[word]
        padded = torch.cat([features, features.new_zeros(1, self.width)])
        of_words = rows.spread(padded[torch.from_numpy(owners).to(padded.device)])
        if self.characters is None:
            return of_words
        return of_words + at_least_float32(self.characters(rows.ids)) * (rows.ids != 0).unsqueeze(-1)


def word_spans(text: str, lookup: Lookup) -> list[tuple[int, int]]:
    """Start and end (excluded) of the words of a text, with and without a vector; see `VectorEmbedding`."""
    spans = []
    for match in _WORD.finditer(text):
        word = match.group()
        if any(mark in word[1:] for mark in APOSTROPHES) and not lookup.rows(word):
            spans += [
                (match.start() + part.start(), match.start() + part.end()) for part in _RUN_OR_MARK.finditer(word)
            ]
        else:
            spans.append(match.span())
    return spans
