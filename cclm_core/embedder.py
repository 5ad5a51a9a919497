"""The common base: character ids to features, shared by every component."""

import hashlib
from pathlib import Path
from typing import Self

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cclm_core.artifacts import read_json, write_json
from cclm_core.config import Config, canonical_json
from cclm_core.encoders.catalogue import EncoderConfig, build, describe
from cclm_core.encoders.config import EmbeddingConfig, HourglassConfig
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.text.letters import letters
from cclm_core.text.vocabulary import Preprocessor

CONFIG, WEIGHTS, PREPROCESSOR = "embedder.json", "embedder.safetensors", "preprocessor.json"


class EmbedderConfig(Config):
    """The shape of the base."""

    embedding: EmbeddingConfig = Field(default_factory=EmbeddingConfig)
    encoder: EncoderConfig = Field(default_factory=HourglassConfig)


class Embedder(nn.Module):
    """Embeds ids (B, L) int64 as (B, L, D) float32, the same whatever padding (id 0) stands behind a text.

    Args:
        preprocessor: the vocabulary whose ids it embeds.
        config: its shape.
    """

    def __init__(self, preprocessor: Preprocessor, config: EmbedderConfig | None = None) -> None:
        super().__init__()
        self.preprocessor, self.config = preprocessor, config or EmbedderConfig()
        self.embedding = CharacterEmbedding(preprocessor.num_ids, self.config.embedding)
        self.encoder = build(self.config.embedding.width, self.config.encoder)
        self.width = self.encoder.width
        self.register_buffer("_letters", torch.from_numpy(letters(preprocessor)), persistent=False)

    @property
    def causal(self) -> bool:
        """Whether the features of a character depend on it and those before it alone."""
        return self.encoder.causal

    @property
    def described(self) -> str:
        """A few words for a message, e.g. `the base (hourglass, causal: false)`."""
        return f"the base ({describe(self.config.encoder)})"

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64, L ≥ 0, 0 for padding."""
        starts = self.word_starts(ids) if self.encoder.reads_words else None
        features: Tensor = self.encoder(self.embedding(ids), ids != 0, starts)
        return features

    def word_starts(self, ids: Tensor) -> Tensor:
        """Where the words of `ids` (B, L) begin: (B, L) bool, for encoders that read words."""
        inside = self.get_buffer("_letters")[ids]
        return inside & ~nn.functional.pad(inside, (1, 0))[:, :-1]

    def freeze(self) -> Self:
        """Stops all training of the base from here on."""
        self.requires_grad_(False)
        return self.eval()

    @property
    def digest(self) -> str:
        """SHA-256 over configuration, vocabulary and weights: what a component was trained on."""
        return weights_digest(self, canonical_json([self.config.canonical(), self.preprocessor.digest]))

    def save(self, folder: Path) -> None:
        """Writes configuration, vocabulary and weights into `folder`."""
        write_json(folder / CONFIG, self.config.canonical())
        self.preprocessor.save(folder / PREPROCESSOR)
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "Embedder":
        """Reads what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        config = EmbedderConfig.parse(read_json(folder / CONFIG), str(folder / CONFIG))
        embedder = cls(Preprocessor.load(folder / PREPROCESSOR), config)
        embedder.load_state_dict(load_file(folder / WEIGHTS))
        return embedder


def weights_digest(module: nn.Module, about: str = "") -> str:
    """SHA-256 over `about`, and over the names, shapes and bytes of a module's weights."""
    state = hashlib.sha256(about.encode())
    for name, tensor in sorted(module.state_dict().items()):
        state.update(f"{name} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()
