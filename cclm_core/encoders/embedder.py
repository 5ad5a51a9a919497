"""The contracts of models and bases, the features that a batch shares between models, and the embedder."""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, overload

import torch
from torch import Tensor, nn

from cclm_core.encoders.catalogue import describe
from cclm_core.encoders.config import EmbedderConfig as EmbedderConfig
from cclm_core.encoders.contexts import Contexts
from cclm_core.encoders.digest import weights_digest
from cclm_core.encoders.ids import as_batch, check_range
from cclm_core.encoders.migration import ATTRIBUTES, EMBEDDER
from cclm_core.encoders.pretrained.catalogue import PretrainedEmbedding, build_embedding
from cclm_core.encoders.pretrained.rows import TextRows, read_rows
from cclm_core.encoders.versions import count_fused_steps
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.errors import ConfigError
from cclm_core.runtime.migration import old_arguments, old_attribute
from cclm_core.text.vocabulary import Preprocessor
from cclm_core.text.words import letters

count_fused_steps()


class Model(nn.Module, ABC):
    """Computes features of a batch: an embedder, a component, or a composition.

    Weights can have any floating type (`half()`, `bfloat16()`, `double()`); features are float64 if the weights are,
    otherwise float32.
    """

    _cached_digest: tuple[tuple[object, ...], str] | None = None  # state of the weights -> digest

    @property
    @abstractmethod
    def width(self) -> int:
        """Features per character."""

    @property
    @abstractmethod
    def causal(self) -> bool:
        """Whether the features of each character depend only on it and earlier characters."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the architecture, the vocabulary and the weights; excludes the name and a shared base.

        Cached until a weight changes.
        """

    @property
    @abstractmethod
    def described(self) -> str:
        """Name and architecture for messages, e.g. `the base (hourglass, causal: false)`."""

    @abstractmethod
    def encode(self, reading: "Reading", base: "Base") -> Tensor:
        """Computes the features (B, L, `width`) of a batch.

        Args:
            reading: the batch, with the features of bases that other parts have already computed.
            base: the base of the composition that this model is a part of.
        """

    @property
    def trainable(self) -> bool:
        """Whether any weight requires a gradient. Setting it freezes or unfreezes all weights, as in cclm 0.1.2."""
        return any(parameter.requires_grad for parameter in self.parameters())

    @trainable.setter
    def trainable(self, value: bool) -> None:
        """Freezes or unfreezes all weights."""
        self.requires_grad_(value).train(value)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explains the attributes of cclm 0.1.2."""
            try:
                return super().__getattr__(name)
            except AttributeError:
                if name not in ATTRIBUTES:
                    raise
            raise old_attribute(self, name, ATTRIBUTES)

        def __setattr__(self, name: str, value: Any) -> None:
            """Refuses another `model`, which cclm 0.1.2 allowed: it would not be used."""
            if name == "model":
                raise old_attribute(self, "model =", ATTRIBUTES)
            super().__setattr__(name, value)

    def adopt_base(self) -> None:
        """Rebinds nested components to their bases after joint training, which changed the weights of the bases."""

    def _summary(self) -> str:
        """Width, causality and digest, for `repr`."""
        has_storage = all(tensor.device.type != "meta" for tensor in chain(self.parameters(), self.buffers()))
        digest = f", digest={self.digest[:12]}" if has_storage else ""
        return f"width={self.width}, causal={self.causal}{digest}"

    def _digest_of(self, module: nn.Module, about: str) -> str:
        """`weights_digest`, cached until a weight is changed in place or replaced."""
        tensors = [*chain(module.parameters(), module.buffers())]
        if any(tensor.is_inference() for tensor in tensors):  # torch does not track their changes
            return weights_digest(module, about)
        state = (about, *((tensor.data_ptr(), tensor._version) for tensor in tensors))
        if self._cached_digest is None or self._cached_digest[0] != state:
            self._cached_digest = (state, weights_digest(module, about))
        return self._cached_digest[1]


class Base(Model):
    """A model of ids over which components can be trained: an embedder or a composition.

    It maps ids (B, L) int64, 0 for padding, L ≥ 0, to features (B, L, `width`). The result is invariant to
    padding, to the rest of the batch, and to the mode (`train` or `eval`).

    Attributes:
        preprocessor: the vocabulary.
    """

    preprocessor: Preprocessor

    @property
    @abstractmethod
    def embedder(self) -> "Embedder":
        """The innermost base."""

    def freeze(self) -> Self:
        """Disables gradients of all weights and switches to evaluation mode, for every user of this object.

        You need not freeze a base to compose parts or to train a component over it: both read it without gradients.
        """
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> Self:
        """Reverts `freeze`: enables gradients of all weights and switches to training mode."""
        self.requires_grad_(True)
        return self.train()


class Reading:
    """One batch, shared by the parts of a model: each base, and bases of equal digest, run only once.

    Args:
        ids: (B, L) int64, 0 for padding. Other whole numbers are converted.
        gradients: whether gradients reach the bases, for weights that require one.
        contexts: other texts of the author or group of each row, for parts that read them.

    Raises:
        DataError: `ids` are not whole numbers, or have another number of dimensions; or `contexts` do not fit.
    """

    def __init__(self, ids: Tensor, gradients: bool = False, contexts: Contexts | None = None) -> None:
        self.ids = as_batch(ids)
        self.contexts = None if contexts is None else contexts.checked(len(self.ids))
        self.mask = self.ids != 0
        self._gradients = gradients
        self._cached: list[tuple[Base, Tensor]] = []
        self._starts: Tensor | None = None
        self._rows: TextRows | None = None
        self._context_reading: Reading | None = None

    @property
    def context_reading(self) -> "Reading":
        """The ids of the contexts as a batch of B * C rows of its own, shared by all parts."""
        if self._context_reading is None:
            assert self.contexts is not None and self.contexts.ids is not None
            self._context_reading = Reading(self.contexts.ids.flatten(0, 1), self._gradients)
        return self._context_reading

    def features(self, base: Base) -> Tensor:
        """The features (B, L, width of `base`) of the batch."""
        for cached_base, cached in self._cached:
            if cached_base is base or self._can_share(cached_base, base):
                return cached
        with nullcontext() if self._gradients else torch.no_grad():
            features: Tensor = base(self.ids, self)
        self._cached.append((base, features))
        return features

    def add(self, base: Base, features: Tensor) -> None:
        """Adds features (B, L, width) of `base` that were computed before, so that it does not run."""
        self._cached.append((base, features))

    def word_starts(self, base: Base) -> Tensor:
        """Whether a word starts at each position, (B, L) bool. All bases of a model share one vocabulary."""
        if self._starts is None:
            self._starts = base.embedder.word_starts(self.ids)
        return self._starts

    def rows(self, base: Base) -> TextRows:
        """The texts of the batch, for embeddings of words and word pieces. All bases share one vocabulary.

        Raises:
            DataError: an id is outside of the vocabulary.
        """
        if self._rows is None:
            check_range(self.ids, base.preprocessor.num_ids)
            self._rows = read_rows(self.ids, base.preprocessor)
        return self._rows

    def embedded(self, embedding: nn.Module, base: Base) -> Tensor:
        """The features (B, L, W) of an embedding of characters, or of a pretrained one."""
        features: Tensor = embedding(self.rows(base) if isinstance(embedding, PretrainedEmbedding) else self.ids)
        return features

    def _can_share(self, left: Base, right: Base) -> bool:
        """Whether two bases have the same features. Bases that receive gradients must run separately."""
        if left.width != right.width or (self._gradients and (_is_trained(left) or _is_trained(right))):
            return False
        return left.digest == right.digest


class Embedder(Base):
    """Embeds ids (B, L) int64, 0 for padding, as features (B, L, D).

    ```
    Embedder(preprocessor, config)
    Embedder(max_example_len, n_chars, preprocessor=preprocessor)  # checked against the vocabulary
    ```

    Args:
        preprocessor: the vocabulary; required, since its digest is part of the digest of the embedder.
        config: the architecture, or a mapping of its keys; None for the default.
        max_example_len: ids per row of a batch. Ignored: an embedder reads any length.
        n_chars: number of ids in the vocabulary.
        embedding: for `load`: the pretrained embedding of a saved embedder.

    Raises:
        ConfigError: no vocabulary is given, or its number of ids is not `n_chars`.
        CclmError: the source of a pretrained embedding cannot be read; see `PretrainedConfig.open`.
    """

    @overload
    def __init__(
        self,
        preprocessor: Preprocessor,
        config: EmbedderConfig | None = None,
        /,
        *,
        embedding: PretrainedEmbedding | None = None,
    ) -> None: ...

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

    @old_arguments(hints=EMBEDDER, aliases={"prep": "preprocessor"})
    def __init__(
        self,
        *args: Any,
        preprocessor: Preprocessor | None = None,
        config: EmbedderConfig | None = None,
        embedding: PretrainedEmbedding | None = None,
    ) -> None:
        super().__init__()
        if args and isinstance(args[0], Preprocessor) and len(args) <= 2:
            preprocessor, config = (*args, config)[:2]
        elif args:
            _check_sizes(args, preprocessor)
        if preprocessor is None:
            raise ConfigError(
                f"Embedder needs a vocabulary, got only {args}. Write `Embedder(prep.max_example_len, prep.n_chars, "
                "preprocessor=prep)` or `Embedder(prep)`."
            )
        if not isinstance(config, EmbedderConfig):
            config = EmbedderConfig.parse({} if config is None else config, "Embedder")
        own, self.embedding = build_embedding(config.embedding, preprocessor.num_ids, embedding)
        assert own.width is not None
        self.preprocessor, self.config = preprocessor, config.model_copy(update={"embedding": own})
        self.encoder = self.config.encoder.build(own.width)
        self.register_buffer("_letters", torch.from_numpy(letters(preprocessor)), persistent=False)

    @property
    def width(self) -> int:
        """Features per character."""
        return self.encoder.width

    @property
    def embedder(self) -> "Embedder":
        """This embedder."""
        return self

    @property
    def model(self) -> "Embedder":
        """This module: `embedder.model(ids)` is `embedder(ids)`, as in cclm 0.1.2."""
        return self

    @property
    def n_chars(self) -> int:
        """The number of ids in the vocabulary; the name of the original CCLM."""
        return self.preprocessor.num_ids

    @property
    def max_example_len(self) -> int | None:
        """The maximum number of ids in a row, as in the vocabulary; the name of the original CCLM."""
        return self.preprocessor.max_example_len

    @property
    def causal(self) -> bool:
        """Whether the encoder is causal."""
        return self.encoder.causal

    @property
    def described(self) -> str:
        """The encoder, for messages, e.g. `the base (hourglass, causal: false)`."""
        return f"the base ({describe(self.config.encoder)})"

    @property
    def digest(self) -> str:
        """SHA-256 of the configuration, the vocabulary and the weights."""
        return self._digest_of(self, canonical_json([self.config.canonical(), self.preprocessor.digest]))

    def forward(self, ids: Tensor, reading: Reading | None = None) -> Tensor:
        """Embeds ids as features (B, L, `width`).

        Args:
            ids: (B, L) int64, L ≥ 0, 0 for padding.
            reading: the same ids, shared with an enclosing model, if any.

        Raises:
            DataError: `ids` are not whole numbers of the vocabulary, or have another number of dimensions.
        """
        reading = reading or Reading(ids)
        check_range(reading.ids, self.preprocessor.num_ids)
        starts = reading.word_starts(self) if self.encoder.reads_words else None
        features: Tensor = self.encoder(reading.embedded(self.embedding, self), reading.mask, starts)
        return features

    def extra_repr(self) -> str:
        """Size and digest, for `repr`."""
        return f"num_ids={self.preprocessor.num_ids}, {self._summary()}"

    def encode(self, reading: Reading, base: Base) -> Tensor:  # noqa: ARG002
        """See `Model.encode`."""
        return reading.features(self)

    def word_starts(self, ids: Tensor) -> Tensor:
        """Whether a word starts at each position of `ids` (B, L): (B, L) bool, for encoders that read words."""
        inside = self.get_buffer("_letters")[ids]
        return inside & ~nn.functional.pad(inside, (1, 0))[:, :-1]


def _is_trained(base: Base) -> bool:
    return any(parameter.requires_grad for parameter in base.parameters())


def _check_sizes(args: tuple[Any, ...], preprocessor: Preprocessor | None) -> None:
    """Checks the arguments `max_example_len, n_chars`, the second one against the vocabulary if given."""
    if len(args) != 2 or isinstance(args[1], bool) or not isinstance(args[1], int):
        raise ConfigError(
            f"Embedder takes a Preprocessor, or `max_example_len, n_chars`, got {args}. Write `Embedder(prep)`."
        )
    if preprocessor is not None and args[1] != preprocessor.num_ids:
        raise ConfigError(
            f"n_chars must be {preprocessor.num_ids}, the number of ids in the vocabulary, got {args[1]}. "
            "Pass `prep.n_chars` of the same Preprocessor."
        )
