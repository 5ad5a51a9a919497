"""What components stand on: the contract of a base, one reading of a batch by several, and the embedder itself."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Self

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cclm_core.encoders.catalogue import EncoderConfig, describe
from cclm_core.encoders.embedding import CharacterEmbedding, EmbeddingConfig
from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.config import Config, canonical_json
from cclm_core.runtime.errors import ArtifactError
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.words import letters

CONFIG, WEIGHTS, PREPROCESSOR = "embedder.json", "embedder.safetensors", "preprocessor.json"


class EmbedderConfig(Config):
    """The shape of the base."""

    embedding: EmbeddingConfig = Field(default_factory=EmbeddingConfig)
    encoder: EncoderConfig = Field(default_factory=HourglassConfig)


class Base(nn.Module, ABC):
    """What components stand on: an embedder, or a composition, over which others are trained in turn.

    Called with ids (B, L) int64, 0 for padding, any L ≥ 0, it gives features (B, L, `width`) float32, the same whatever
    padding stands behind a text and whatever the mode, `train` or `eval`.

    Attributes:
        width: features per character.
        preprocessor: the vocabulary whose ids it reads.
    """

    width: int
    preprocessor: Preprocessor

    @property
    @abstractmethod
    def causal(self) -> bool:
        """Whether the features of a character depend on it and those before it alone."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over its shape, vocabulary and weights, not its name: what a component was trained on."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What a message calls it, e.g. `the base`."""

    @property
    @abstractmethod
    def shape(self) -> str:
        """What a message says of its shape, e.g. `hourglass, causal: false`."""

    @property
    @abstractmethod
    def embedding_config(self) -> EmbeddingConfig:
        """The shape of the embedding of characters at its bottom."""

    @property
    def described(self) -> str:
        """A few words for a message, e.g. `the base (hourglass, causal: false)`."""
        return f"{self.title} ({self.shape})"

    @abstractmethod
    def word_starts(self, ids: Tensor) -> Tensor:
        """Where the words of `ids` (B, L) begin: (B, L) bool, for encoders that read words."""

    def read(self, reading: "Reading") -> Tensor:
        """The features (B, L, width) of the batch, by one call of this module; `Reading.of` is for those who share."""
        features: Tensor = self(reading.ids)
        return features

    def shared(self, known: dict[str, "Base"]) -> "Base":
        """The base in `known` that has the digest of this one; else this one, which is added.

        A composition gives a twin of itself where a base below it is known already, so that each is there once.
        """
        return known.setdefault(self.digest, self)

    def freeze(self) -> Self:
        """Stops its training: from here on no weight of it asks for a gradient, and it is in evaluation mode.

        All who hold this object see that. Nothing else freezes it: a component is trained over it, and it is composed,
        as it is; both read it without gradients.
        """
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> Self:
        """Takes back `freeze`: every weight asks for a gradient, and it is in training mode."""
        self.requires_grad_(True)
        return self.train()

    def adopt_base(self, renamed: dict[str, str] | None = None) -> None:
        """Says that what stands on a base inside of it was trained together with that base, which has changed.

        Args:
            renamed: digests that other parts of the model have adopted, old to new; what is found here is added.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes all that it needs into `folder`."""

    def store(self, folder: Path, stored: set["Base"]) -> None:
        """As `save`, but for the bases in `stored`, which stand elsewhere in the same model; adds what it writes."""
        self.save(folder)
        stored.add(self)


class Reading:
    """One batch as the parts of a model read it: each base below them runs once, whoever asks and how deep it stands.

    Args:
        ids: (B, L) int64, 0 for padding.
        gradients: whether bases are read with gradients, for those of their weights that ask for one.
    """

    def __init__(self, ids: Tensor, gradients: bool = False) -> None:
        self.ids, self.mask = ids, ids != 0
        self._gradients = gradients
        self._features: dict[Base, Tensor] = {}
        self._starts: Tensor | None = None

    def of(self, base: Base) -> Tensor:
        """The features (B, L, width of `base`)."""
        if base not in self._features:
            with nullcontext() if self._gradients else torch.no_grad():
                self._features[base] = base.read(self)
        return self._features[base]

    def word_starts(self, base: Base) -> Tensor:
        """Where words begin: (B, L) bool; all bases of one model have one vocabulary."""
        if self._starts is None:
            self._starts = base.word_starts(self.ids)
        return self._starts


class Embedder(Base):
    """Embeds ids (B, L) int64 as (B, L, D) float32, the same whatever padding (id 0) stands behind a text.

    Args:
        preprocessor: the vocabulary whose ids it embeds.
        config: its shape.
    """

    def __init__(self, preprocessor: Preprocessor, config: EmbedderConfig | None = None) -> None:
        super().__init__()
        self.preprocessor, self.config = preprocessor, config or EmbedderConfig()
        self.embedding = CharacterEmbedding(preprocessor.num_ids, self.config.embedding)
        self.encoder = self.config.encoder.build(self.config.embedding.width)
        self.width = self.encoder.width
        self.register_buffer("_letters", torch.from_numpy(letters(preprocessor)), persistent=False)

    @property
    def causal(self) -> bool:
        return self.encoder.causal

    @property
    def title(self) -> str:
        return "the base"

    @property
    def shape(self) -> str:
        return describe(self.config.encoder)

    @property
    def embedding_config(self) -> EmbeddingConfig:
        return self.config.embedding

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64, L ≥ 0, 0 for padding."""
        starts = self.word_starts(ids) if self.encoder.reads_words else None
        features: Tensor = self.encoder(self.embedding(ids), ids != 0, starts)
        return features

    def word_starts(self, ids: Tensor) -> Tensor:
        inside = self.get_buffer("_letters")[ids]
        return inside & ~nn.functional.pad(inside, (1, 0))[:, :-1]

    @property
    def digest(self) -> str:
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
        load_weights(embedder, folder / WEIGHTS)
        return embedder


def weights_digest(module: nn.Module, about: str = "") -> str:
    """SHA-256 over `about`, and over the names, shapes and bytes of a module's weights."""
    state = hashlib.sha256(about.encode())
    for name, tensor in sorted(module.state_dict().items()):
        state.update(f"{name} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def load_weights(module: nn.Module, path: Path, others: Mapping[str, Tensor] | None = None) -> None:
    """Gives a module the weights of a file that was saved from one of the same shape.

    Args:
        module: what to fill.
        path: a file of safetensors.
        others: by name, the weights of the module that stand in other files.

    Raises:
        ArtifactError: the file is missing or damaged, or names and shapes do not agree: those that differ are named.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} must exist; there is no such file. Run the stage that makes it.")
    try:
        module.load_state_dict({**load_file(path), **(others or {})})
    except (SafetensorError, RuntimeError) as error:  # torch names missing tensors and wrong shapes in a RuntimeError
        raise ArtifactError(f"{path} must hold the weights of a whole {type(module).__name__}: {error}") from None
