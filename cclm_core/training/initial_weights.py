"""Initial weights that were trained elsewhere: of a whole model, of a network in it, or by a written mapping.

```yaml
initialize: {source: input/pretrained, sha256: …}                                       # the whole model
initialize: {source: input/pretrained, sha256: …, network: encoder}                     # one network
initialize: {source: input/pretrained, sha256: …, mapping: {body: parts.letters.body}}  # other names
```

Names, shapes, settings and vocabularies are compared before anything is copied. Every difference is refused, with both
sides named. Weights that are not selected keep their random initial values.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from cclm_core.encoders.embedder import Embedder
from cclm_core.encoders.embedding import CharacterEmbedding
from cclm_core.encoders.saved_weights import SavedWeights, networks_of, source_digest
from cclm_core.encoders.weights import TYPES
from cclm_core.runtime.config import Config, nearest
from cclm_core.runtime.errors import ArtifactError, ConfigError, IntegrityError
from cclm_core.text.alphabet import FIRST_CHARACTER
from cclm_core.text.vocabulary import Preprocessor

C = TypeVar("C", bound=Config)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = 5  # problems in a message
_DEPTH = 3  # of names that are suggested


class InitializeConfig(Config):
    """Which weights of a published model a new model starts from."""

    source: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="a published embedder, component or composition, or a *.safetensors file, in input/; or "
        "package:NAME/PATH; null in a published result",
    )
    sha256: str | None = Field(
        default=None,
        description="digest of the source, checked before anything is copied; required in params.yaml. If it is "
        "missing, the error gives it",
    )
    network: str | None = Field(
        default=None, description="initialize only this network of the model, such as `encoder`; null: the whole model"
    )
    source_network: str | None = Field(
        default=None, description="the network of the source to copy; null: the one with the same name"
    )
    mapping: dict[str, str] | None = Field(
        default=None,
        description="several networks or weights: name in this model -> name in the source; an empty name is the whole "
        "model",
    )
    allow: tuple[str, ...] = Field(
        default=(), description="settings of networks that may differ from those of the source, such as num_layers"
    )
    vocabulary: Literal["same", "by_character"] = Field(
        default="same",
        description="same: refuse weights of an embedding of characters that has another vocabulary; by_character: "
        "copy the vectors of the characters that both have, and start n-grams and other characters at random",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 must have 64 hexadecimal digits in lower case, got {self.sha256!r:.80}")
        if self.source is None and self.sha256 is None:
            raise ValueError("source is missing. Name a published folder or a *.safetensors file")
        if self.mapping is not None and (self.network is not None or self.source_network is not None):
            raise ValueError("set `mapping`, or `network` and `source_network`, not both")
        if self.mapping is not None and not self.mapping:
            raise ValueError("mapping must have at least one name, got {}; remove it to initialize the whole model")
        return self

    @property
    def pairs(self) -> dict[str, str]:
        """Name in the model -> name in the source; an empty name is the whole model."""
        if self.mapping is not None:
            return self.mapping
        network = self.network or ""
        return {network: network if self.source_network is None else self.source_network}

    @property
    def published(self) -> "InitializeConfig":
        """The same without the path."""
        return self.model_copy(update={"source": None})

    def digest(self) -> str:
        """SHA-256 of the source; see `source_digest`."""
        if self.source is None:
            raise ConfigError("initialize.source is missing. Name a published folder or a *.safetensors file.")
        return source_digest(self.source)

    def require_digest(self, where: str) -> None:
        """Checks that `sha256` is given, so that other weights are another configuration.

        Args:
            where: the key of this configuration in messages, such as `params.yaml: base.initialize`.

        Raises:
            ConfigError: it is not; the message has the digest to add.
        """
        if self.sha256 is None:
            raise ConfigError(
                f"{where}.sha256 is missing, so changed weights would not be noticed. Add `sha256: {self.digest()}`."
            )


class Target(NamedTuple):
    """The new model.

    Attributes:
        model: the model.
        described: its name in messages, such as `the base`.
        settings: name of each network -> its configuration; see `saved_weights.networks_of`.
        preprocessor: its vocabulary.
    """

    model: nn.Module
    described: str
    settings: Mapping[str, Mapping[str, Any]]
    preprocessor: Preprocessor


def initialize(target: Target, config: InitializeConfig) -> dict[str, int]:
    """Copies pretrained weights into a new model. If anything differs, nothing is copied.

    Args:
        target: the model; changed in place.
        config: the source, and what to copy.

    Returns:
        Metrics: `initialized_parameters`, the number of copied values; and with `vocabulary: by_character` and another
        vocabulary `initialized_characters`, the number of characters of the model that the source has, too.

    Raises:
        ConfigError: there is no such source or network.
        IntegrityError: the source does not have the digest `sha256`.
        ArtifactError: the source is damaged; or names, shapes, settings or vocabularies differ. The message has both
            sides.
    """
    config.require_digest("initialize")
    if (digest := config.digest()) != config.sha256:
        raise IntegrityError(
            f"{config.source} has the SHA-256 {digest}, but the configuration expects {config.sha256}. Restore the "
            "source, or change `sha256`."
        )
    match = _Match(target, SavedWeights.open(str(config.source)), config)
    match.check()
    return match.copy()


def initialize_embedder(embedder: Embedder, config: InitializeConfig) -> dict[str, int]:
    """Copies pretrained weights into a new embedder; see `initialize`."""
    settings = networks_of("encoder", embedder.config.encoder, embedder.config.embedding)
    return initialize(Target(embedder, embedder.described, settings, embedder.preprocessor), config)


def published(config: C) -> C:
    """A configuration for a card: the key `initialize` without the path, so that a moved source changes nothing."""
    weights = getattr(config, "initialize", None)
    return config if weights is None else config.model_copy(update={"initialize": weights.published})


@dataclass(frozen=True)
class _Match:
    """The weights of a model next to those of a source."""

    target: Target
    source: SavedWeights
    config: InitializeConfig

    def check(self) -> None:
        """Refuses every difference; see `initialize`."""
        self._check_names()
        settings, vocabulary = list(self._settings()), list(self._vocabulary())
        problems = [*settings, *vocabulary, *self._weights()]
        if not problems:
            return
        if settings:
            remedy = "Use the same settings, or list those that may differ in `allow`."
        elif vocabulary:
            remedy = "Use the vocabulary of the source, or initialize other networks"
            remedy += "." if self.source.preprocessor is None else ", or set `vocabulary: by_character`."
        else:
            remedy = "Change the configuration of the model, name a `network`, or write a `mapping`."
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ArtifactError(
            f"cannot initialize {self.target.described} from {self.source.source}: "
            f"{'; '.join(problems[:_SHOWN])}{more}. {remedy}"
        )

    def copy(self) -> dict[str, int]:
        """Copies the weights, which fit."""
        state, names = self._state, self._copied
        weights = self.source.read(names.values())
        rows = self._rows() if self._is_mapped and set(names) & self._tables else None
        num_values = 0
        with torch.no_grad():
            for name, source in names.items():
                if rows is not None and name in self._tables:
                    own, theirs = rows
                    state[name][own] = weights[source][theirs].to(state[name])
                    num_values += state[name][own].numel()
                else:
                    state[name].copy_(weights[source])
                    num_values += state[name].numel()
        found = {} if rows is None else {"initialized_characters": len(rows[0]) - FIRST_CHARACTER}
        return {"initialized_parameters": num_values, **found}

    @property
    def _state(self) -> dict[str, Tensor]:
        return dict(self.target.model.state_dict())

    @property
    def _copied(self) -> dict[str, str]:
        """Name of each weight to copy -> its name in the source. N-grams of another vocabulary are left out."""
        selected = dict(self._selected())
        if not self._is_mapped:
            return selected
        dropped = self._by_ids - self._tables
        return {name: source for name, source in selected.items() if name not in dropped}

    def _selected(self) -> Iterator[tuple[str, str]]:
        """Each weight that a pair of names selects, with its name in the source."""
        for own, theirs in self.config.pairs.items():
            for name in self._state:
                if _is_in(name, own):
                    yield name, _joined(theirs, name.removeprefix(own))

    @property
    def _by_ids(self) -> set[str]:
        """The weights of the model that belong to ids: vectors of characters and of n-grams."""
        return {
            f"{path}.{name}" if path else name
            for path, module in self.target.model.named_modules()
            if isinstance(module, CharacterEmbedding)
            for name, _ in module.named_parameters()
        }

    @property
    def _tables(self) -> set[str]:
        """Those of `_by_ids` with one row per id."""
        return {name for name in self._by_ids if ".ngrams." not in f".{name}"}

    @property
    def _is_mapped(self) -> bool:
        """Whether vectors of characters are copied row by row."""
        return self.config.vocabulary == "by_character" and not self._has_same_vocabulary

    @property
    def _has_same_vocabulary(self) -> bool:
        return self.source.vocabulary == self.target.preprocessor.digest

    def _check_names(self) -> None:
        """Refuses names that the model or the source does not have, and weights that two names select."""
        for own, theirs in self.config.pairs.items():
            for name, side, known in (
                (own, self.target.described, self._state),
                (theirs, self.source.source, self.source.headers),
            ):
                if not any(_is_in(weight, name) for weight in known):
                    hint = nearest(name, _networks(known))
                    raise ConfigError(f"initialize: {side} has no network or weight {name!r:.80}; {hint:.300}")
        selected = [name for name, _ in self._selected()]
        if twice := sorted({name for name in selected if selected.count(name) > 1}):
            raise ConfigError(f"initialize.mapping selects {twice[0]} twice. Remove one of the names that contain it.")

    def _settings(self) -> Iterator[str]:
        """Describes each setting that differs between two networks: equal shapes can compute different things."""
        for name, other in dict.fromkeys(
            pair for names in self.config.pairs.items() for pair in self._compared(*names)
        ):
            left, right = self.target.settings[name], self.source.settings[other]
            for key in [*left, *(key for key in right if key not in left)]:
                if left.get(key) != right.get(key) and key not in self.config.allow:
                    yield (
                        f"{name}.{key} is {left.get(key)!r:.80} in the model, and {other}.{key} is "
                        f"{right.get(key)!r:.80} in the source"
                    )

    def _compared(self, own: str, theirs: str) -> Iterator[tuple[str, str]]:
        """The networks with settings that a pair of names copies: whole ones, or those that contain what it copies."""
        ours = sorted(self.target.settings, key=len)
        inside = [name for name in ours if _is_in(name, own)]
        outermost = [name for name in inside if not any(_is_in(name, other) for other in inside if other != name)]
        pairs = [(name, _joined(theirs, name.removeprefix(own))) for name in outermost]
        if not inside:
            around = [name for name in ours if _is_in(own, name)]
            others = [name for name in sorted(self.source.settings, key=len) if _is_in(theirs, name)]
            pairs = [(around[-1], others[-1])] if around and others else []
        yield from (pair for pair in pairs if pair[1] in self.source.settings)

    def _vocabulary(self) -> Iterator[str]:
        """Describes another vocabulary, if weights that belong to ids are selected."""
        if self._has_same_vocabulary or not set(dict(self._selected())) & self._by_ids:
            return
        own, other = self.target.preprocessor, self.source.preprocessor
        if other is None:
            digest = self.source.vocabulary
            kept = "has none" if digest is None else f"has only the digest of its own, {digest[:12]}"
            yield f"the model has the vocabulary {own.digest[:12]}, and the source {kept}"
        elif not self._is_mapped:
            shared = len({*own.alphabet} & {*other.alphabet})
            yield (
                f"the model has the vocabulary {own.digest[:12]} of {len(own.alphabet)} characters, and the source "
                f"{other.digest[:12]} of {len(other.alphabet)}; {shared} are in both"
            )

    def _rows(self) -> tuple[list[int], list[int]]:
        """The ids that both vocabularies have, in the model and in the source: special ids, bytes, characters."""
        assert self.source.preprocessor is not None
        theirs = {character: id_ for id_, character in enumerate(self.source.preprocessor.alphabet, FIRST_CHARACTER)}
        alphabet = enumerate(self.target.preprocessor.alphabet, FIRST_CHARACTER)
        both = [(own, theirs[character]) for own, character in alphabet if character in theirs]
        fixed = list(range(FIRST_CHARACTER))
        return [*fixed, *(own for own, _ in both)], [*fixed, *(other for _, other in both)]

    def _weights(self) -> Iterator[str]:
        """Describes each name, shape or type that does not fit."""
        state, headers, copied = self._state, self.source.headers, self._copied
        mapped = self._tables if self._is_mapped else set()
        for name, source in copied.items():
            shape = tuple(state[name].shape)
            if source not in headers:
                yield f"{name} is {shape} in the model, and the source has no {source}"
            elif headers[source].type not in TYPES:
                yield f"{source} has the type {headers[source].type} in the source, and {name} needs floats"
            elif headers[source].shape[name in mapped :] != shape[name in mapped :]:
                yield f"{name} is {shape} in the model, and {source} is {headers[source].shape} in the source"
        selected = {source for _, source in self._selected()}
        for theirs in self.config.pairs.values():
            for source in headers:
                if _is_in(source, theirs) and source not in selected:
                    yield f"{source} is {headers[source].shape} in the source, and the model has no such weight"


def _is_in(name: str, network: str) -> bool:
    """Whether a weight or a network is in a network, or is it."""
    return not network or name == network or name.startswith(f"{network}.")


def _joined(network: str, rest: str) -> str:
    """The name of what is at `rest` in a network."""
    return ".".join(part for part in (network, rest.removeprefix(".")) if part)


def _networks(weights: Mapping[str, Any]) -> set[str]:
    """The names of the outer networks of some weights, to suggest them."""
    parts = [name.split(".") for name in weights]
    return {".".join(path[:depth]) for path in parts for depth in range(1, min(len(path), _DEPTH) + 1)}
