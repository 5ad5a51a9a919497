"""Models of text: the contract of bases and parts, one reading of a batch that they share, and the embedder."""

import hashlib
from abc import ABC, abstractmethod
from contextlib import nullcontext
from itertools import chain
from typing import Any, Self, overload

import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.encoders.catalogue import EncoderConfig, describe
from cclm_core.encoders.embedding import CharacterEmbedding, EmbeddingConfig
from cclm_core.encoders.hourglass import HourglassConfig
from cclm_core.runtime.config import Config, canonical_json
from cclm_core.runtime.errors import ConfigError
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.words import letters


class EmbedderConfig(Config):
    """The shape of an embedder."""

    embedding: EmbeddingConfig = Field(default_factory=EmbeddingConfig)
    encoder: EncoderConfig = Field(default_factory=HourglassConfig)


class Model(nn.Module, ABC):
    """Computes features of a batch: an embedder, a component over a base, or a composition of components.

    Attributes:
        width: features per character.
    """

    width: int
    _digests: tuple[tuple[object, ...], str] | None = None  # the state of the weights, and the digest it has

    @property
    @abstractmethod
    def causal(self) -> bool:
        """Whether the features of a character depend only on it and the characters before it."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over what it computes: shape, vocabulary and weights, but not its name or the base it shares.

        It is computed again only after weights have changed.
        """

    @property
    @abstractmethod
    def described(self) -> str:
        """Its name and shape for messages, e.g. `the base (hourglass, causal: false)`."""

    @abstractmethod
    def encode(self, reading: "Reading", base: "Base") -> Tensor:
        """The features (B, L, `width`) of the batch; `base` is the base of the composition that it is a part of."""

    def adopt_base(self) -> None:
        """Records that components were trained together with their bases, whose weights have changed since."""

    def _digest_of(self, module: nn.Module, about: str) -> str:
        """`weights_digest`, remembered until a weight is changed in place or replaced."""
        tensors = [*chain(module.parameters(), module.buffers())]
        if any(tensor.is_inference() for tensor in tensors):  # torch does not count their changes
            return weights_digest(module, about)
        state = (about, *((tensor.data_ptr(), tensor._version) for tensor in tensors))
        if self._digests is None or self._digests[0] != state:
            self._digests = (state, weights_digest(module, about))
        return self._digests[1]


class Base(Model):
    """A model that needs nothing but ids, so that components can be trained over it: an embedder or a composition.

    Called with ids (B, L) int64, 0 for padding, L ≥ 0, it returns features (B, L, `width`) float32, independent of the
    padding, of other texts in the batch, and of the mode (`train` or `eval`).

    Attributes:
        preprocessor: the vocabulary of its ids.
    """

    preprocessor: Preprocessor

    @property
    @abstractmethod
    def embedder(self) -> "Embedder":
        """The embedder at the bottom."""

    def freeze(self) -> Self:
        """Stops its training: no weight requires a gradient, and it is in evaluation mode.

        This holds for everybody who uses this object. Composing, and training a component over it, freeze nothing: they
        read it without gradients.
        """
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> Self:
        """Reverts `freeze`: every weight requires a gradient, and it is in training mode."""
        self.requires_grad_(True)
        return self.train()


class Reading:
    """One batch as the parts of a model read it: each base runs once, and so do bases of equal digest.

    Args:
        ids: (B, L) int64, 0 for padding.
        gradients: whether bases are read with gradients, for those of their weights that require one.
    """

    def __init__(self, ids: Tensor, gradients: bool = False) -> None:
        self.ids, self.mask = ids, ids != 0
        self._gradients = gradients
        self._read: list[tuple[Base, Tensor]] = []
        self._starts: Tensor | None = None

    def of(self, base: Base) -> Tensor:
        """The features (B, L, width of `base`)."""
        for other, features in self._read:
            if other is base or self._are_equal(other, base):
                return features
        with nullcontext() if self._gradients else torch.no_grad():
            read: Tensor = base(self.ids, self)
        self._read.append((base, read))
        return read

    def word_starts(self, base: Base) -> Tensor:
        """Where words begin: (B, L) bool. All bases of one model share their vocabulary."""
        if self._starts is None:
            self._starts = base.embedder.word_starts(self.ids)
        return self._starts

    def _are_equal(self, one: Base, other: Base) -> bool:
        """Whether one reading serves both; weights that get gradients are each their own."""
        if one.width != other.width or (self._gradients and (_is_trained(one) or _is_trained(other))):
            return False
        return one.digest == other.digest


class Embedder(Base):
    """Embeds ids (B, L) int64, 0 for padding, as features (B, L, D) float32.

    ```
    Embedder(preprocessor, config)
    Embedder(max_example_len, n_chars, preprocessor=preprocessor)  # checked against the vocabulary
    ```

    Args:
        preprocessor: the vocabulary of its ids. Its digest is part of the embedder's, so it cannot be left out.
        config: the shape; None for the default.
        max_example_len: ids per row of a batch, None or at least 1. An embedder reads any length, so nothing depends on
            it.
        n_chars: number of ids in the vocabulary.

    Raises:
        ConfigError: no vocabulary was given, or it has another number of ids than `n_chars`.
    """

    @overload
    def __init__(self, preprocessor: Preprocessor, config: EmbedderConfig | None = None, /) -> None: ...

    @overload
    def __init__(
        self,
        max_example_len: int | None,
        n_chars: int,
        /,
        *,
        preprocessor: Preprocessor | None = None,
        config: EmbedderConfig | None = None,
    ) -> None: ...

    @overload
    def __init__(self, *, preprocessor: Preprocessor, config: EmbedderConfig | None = None) -> None: ...

    def __init__(
        self, *given: Any, preprocessor: Preprocessor | None = None, config: EmbedderConfig | None = None
    ) -> None:
        super().__init__()
        if given and isinstance(given[0], Preprocessor) and len(given) <= 2:
            preprocessor, config = (*given, config)[:2]
        elif given:
            _check_vocabulary(given, preprocessor)
        if preprocessor is None:
            raise ConfigError(
                f"Embedder needs the vocabulary of its ids, got only {given}. Write `Embedder(prep.max_example_len, "
                "prep.n_chars, preprocessor=prep)` or `Embedder(prep)`."
            )
        self.preprocessor, self.config = preprocessor, config or EmbedderConfig()
        self.embedding = CharacterEmbedding(preprocessor.num_ids, self.config.embedding)
        self.encoder = self.config.encoder.build(self.config.embedding.width)
        self.width = self.encoder.width
        self.register_buffer("_letters", torch.from_numpy(letters(preprocessor)), persistent=False)

    @property
    def embedder(self) -> "Embedder":
        return self

    @property
    def causal(self) -> bool:
        return self.encoder.causal

    @property
    def described(self) -> str:
        return f"the base ({describe(self.config.encoder)})"

    @property
    def digest(self) -> str:
        return self._digest_of(self, canonical_json([self.config.canonical(), self.preprocessor.digest]))

    def forward(self, ids: Tensor, reading: Reading | None = None) -> Tensor:
        """Embeds `ids` (B, L) int64, L ≥ 0, 0 for padding.

        Args:
            ids: what to embed.
            reading: of the same ids, by the model that this embedder is in; None if it is in none.
        """
        starts = (reading or Reading(ids)).word_starts(self) if self.encoder.reads_words else None
        features: Tensor = self.encoder(self.embedding(ids), ids != 0, starts)
        return features

    def encode(self, reading: Reading, base: Base) -> Tensor:  # noqa: ARG002
        return reading.of(self)

    def word_starts(self, ids: Tensor) -> Tensor:
        """Where the words of `ids` (B, L) begin: (B, L) bool, for encoders that read words."""
        inside = self.get_buffer("_letters")[ids]
        return inside & ~nn.functional.pad(inside, (1, 0))[:, :-1]


def weights_digest(module: nn.Module, about: str = "") -> str:
    """SHA-256 over `about`, and over the names, shapes and bytes of a module's weights."""
    state = hashlib.sha256(about.encode())
    for name, tensor in sorted(module.state_dict().items()):
        state.update(f"{name} {tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def _is_trained(base: Base) -> bool:
    return any(parameter.requires_grad for parameter in base.parameters())


def _check_vocabulary(given: tuple[Any, ...], preprocessor: Preprocessor | None) -> None:
    """Checks `max_example_len, n_chars` against the vocabulary, where there is one."""
    if len(given) != 2 or isinstance(given[1], bool) or not isinstance(given[1], int):
        raise ConfigError(f"Embedder takes a Preprocessor, or `max_example_len, n_chars`, got {given}.")
    if preprocessor is not None and given[1] != preprocessor.num_ids:
        raise ConfigError(
            f"n_chars must be the number of ids of the vocabulary, {preprocessor.num_ids}, got {given[1]}. "
            "Take it from the same Preprocessor: `prep.n_chars`."
        )
