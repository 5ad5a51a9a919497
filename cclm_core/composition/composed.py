"""A composition: several parts over one base as one model, which can itself be a base or a part."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cclm_core.composition.card import check_vocabulary
from cclm_core.composition.component import Component
from cclm_core.composition.config import CompositionCard
from cclm_core.composition.fusion import Concatenation, Fusion, FusionConfig, rebuilt
from cclm_core.composition.long_texts import WINDOW
from cclm_core.composition.parts import PartDict
from cclm_core.composition.text_stream import embedded
from cclm_core.composition.unique_names import UniqueNames
from cclm_core.encoders.contexts import Contexts
from cclm_core.encoders.embedder import Base, Embedder, Reading
from cclm_core.encoders.ids import as_ids
from cclm_core.encoders.migration import COMPOSITION
from cclm_core.runtime.config import canonical_json, nearest
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import CompositionError, ConfigError
from cclm_core.runtime.migration import old_arguments
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.text.texts import strings

MAX_DEPTH = 32
"""The largest number of compositions inside each other."""

_GROUP = 8  # batches that `embed_stream` reads ahead


class ComposedModel(UniqueNames, Base):
    """Joins the features of several parts over one base.

    The base is an embedder or a composition. A part is a component, or a composition over the same base or over its own
    base with the same vocabulary. Bases of equal digest run once per batch, at any depth, and are saved once.

    Composing does not change weights, `requires_grad` or the mode of any part or base. Parts are referenced, not
    copied, so training the composition trains them. The base is read without gradients and keeps its digest.

    `components` is a module dictionary: replacing, adding or deleting one of its entries takes effect at once. A fusion
    keeps what it has learned about the parts that remain. `replaced`, `without` and `renamed` return a new composition
    instead. `state_dict` has each weight once, under its first name.

    Args:
        base: the base that every part was trained on.
        components: the parts, in the order of their features, under their own names, or by other names. Names must be
            unique. A pretrainer is replaced by its model.
        name: the name of the composition.
        fusion: how features are joined: a name or a configuration from `composition.fusion`.
        train_base: whether gradients reach the bases, for weights that require them. A nested composition follows the
            setting of the outermost model. Call `adopt_base` after training, before you save.

    Raises:
        ConfigError: no parts, a repeated or invalid name, or an unknown fusion.
        CompositionError: `base` or a part is another kind of object, compositions are nested too deeply, a part was
            trained on another base or vocabulary, a part is causal and the base is bidirectional, or the fusion cannot
            join the parts. An independent part only needs the same vocabulary.
    """

    @old_arguments(hints=COMPOSITION, aliases={"embedder": "base", "models": "components"})
    def __init__(
        self,
        base: Base,
        components: "Iterable[Part] | Mapping[str, Part]",
        name: str = "composition",
        fusion: FusionConfig | str = "concatenation",
        *,
        train_base: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(base, Base):
            raise CompositionError(f"the base must be an Embedder or a ComposedModel, got {type(base).__name__}.")
        names, parts = _named(components)
        self.base, self.preprocessor, self.train_base = base, base.preprocessor, train_base
        self.card = self._carded(names, parts, {"name": name, "fusion": fusion, "base_digest": base.digest})
        by_name = dict(zip(names, parts, strict=True))
        self.components = PartDict(by_name, self._recompose)
        self.fusion: Fusion | Component = self.card.fusion.build(by_name).to(device_of(parts[0]))

    @property
    def name(self) -> str:
        """The name as a part or a published model."""
        return self.card.name

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, in the order of their features."""
        return self.card.parts

    def part(self, name: str) -> "Part":
        """The part named `name`, one of `parts`."""
        return self._parts[name]

    @property
    def _parts(self) -> "dict[str, Part]":
        return cast("dict[str, Part]", dict(self.components.items()))

    @property
    def width(self) -> int:
        """Features per character."""
        if isinstance(self.fusion, Concatenation):
            return sum(part.width for part in self._parts.values())
        return self.fusion.width

    @property
    def embedder(self) -> Embedder:
        """The innermost base."""
        return self.base.embedder

    @property
    def model(self) -> "ComposedModel":
        """This module: `composed.model(x)` is `composed(x)`."""
        return self

    @property
    def causal(self) -> bool:
        """Whether all parts are causal."""
        return all(part.causal for part in self._parts.values())

    @property
    def reads_contexts(self) -> bool:
        """Whether a part, at any depth, reads contexts: other texts of the author or group of a text."""
        return bool(self.context_parts)

    @property
    def context_parts(self) -> "dict[str, tuple[Component, Base]]":
        """The parts that read contexts with their bases, by path such as `outer/inner`."""
        parts: dict[str, tuple[Component, Base]] = {}
        for name, part in self._parts.items():
            if isinstance(part, ComposedModel):
                parts |= {f"{name}/{path}": inner for path, inner in part.context_parts.items()}
            elif part.body.reads_contexts:
                parts[name] = part, self.base
        return parts

    @property
    def described(self) -> str:
        """Name, fusion and parts for messages."""
        parts = ", ".join(map(repr, self.parts))
        causal = str(self.causal).lower()
        return f"the composition {self.name!r} ({self.card.fusion.kind} of {parts}, causal: {causal})"

    @property
    def digest(self) -> str:
        """SHA-256 of the fusion, the base and the parts; excludes all names."""
        about = {
            "format": "cclm-composition",
            "base": self.base.digest,
            "fusion": self.card.canonical()["fusion"],
            "parts": [part.digest for part in self._parts.values()],
        }
        return self._digest_of(self.fusion, canonical_json(about))

    @property
    def columns(self) -> dict[str, slice]:
        """Part -> its feature columns; empty if the fusion mixes the parts."""
        if not isinstance(self.fusion, Concatenation):
            return {}
        ends = list(accumulate(part.width for part in self._parts.values()))
        return {name: slice(end - part.width, end) for end, (name, part) in zip(ends, self._parts.items(), strict=True)}

    def forward(
        self, ids: Tensor | npt.NDArray[Any], reading: Reading | None = None, contexts: Contexts | None = None
    ) -> Tensor:
        """Embeds ids as features (B, L, `width`) float32.

        Args:
            ids: (B, L) or (L,) int64, 0 for padding, L ≥ 0. An array, e.g. from `Preprocessor.string_to_array`, is
                moved to the device of the model.
            reading: the same ids, shared with an enclosing model, if any.
            contexts: other texts of the author or group of each row, on the device of the model, for the parts that
                read them.

        Raises:
            ConfigError: contexts are given and no part reads them.
        """
        if contexts is not None and not self.reads_contexts:
            raise ConfigError(
                f"{self.described} has no part that reads contexts. Leave them out, or add a component with "
                "`encoder: {kind: contextual}`."
            )
        reading = reading or Reading(self._batch(ids), self.train_base, contexts)
        parts = {} if isinstance(self.fusion, Component) else self._parts
        return self._joined({name: part.encode(reading, self.base) for name, part in parts.items()}, reading)

    def features(self, ids: Tensor | npt.NDArray[Any]) -> dict[str, Tensor]:
        """The features (B, L, width) of each part, by name, in order.

        A composition is followed by its own parts, keyed by path: `outer`, `outer/inner`.
        """
        return self._outputs(Reading(self._batch(ids), self.train_base))

    def encode_contexts(self, ids: Tensor | npt.NDArray[Any]) -> dict[str, Tensor]:
        """The encodings (N, W) of contexts, each on its own, by the path of each part that reads contexts.

        The mean over the texts of an author is an encoding of the author.

        Args:
            ids: (N, L) int64, 0 for padding.
        """
        batch = self._batch(ids)
        return {path: part.encode_contexts(batch, base) for path, (part, base) in self.context_parts.items()}

    def embed(
        self, texts: Iterable[str], window: int = WINDOW, batch_characters: int = 4096, spans: Any = None
    ) -> list[npt.NDArray[np.float32]]:
        """Embeds texts of any length, including empty ones: one array (L, width) per text, one row per id.

        Args:
            texts: the strings.
            window: maximum ids per window, at least 2. Longer texts are read in windows that overlap by half; see
                `TextReader`.
            batch_characters: ids per forward pass, including padding, at least 1.
            spans: a span getter instead of `window`: `"whole"`, `"sentences"`, `{"spans": "strided", "window": 512,
                "overlap": 256}` or your own; see `composition.spans`.

        Raises:
            DataError: `texts` are not strings.
            ConfigError: `window` or `batch_characters` is too small, or a wrong span getter.
        """
        return list(embedded(iter(list(strings(texts))), self, window, batch_characters, None, spans))

    def embed_stream(
        self, texts: Iterable[str], window: int = WINDOW, batch_characters: int = 4096, spans: Any = None
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Embeds texts one after the other, in memory bounded by eight batches or the longest text.

        Yields what `embed` returns, in the same order. Arguments and errors are those of `embed`; `texts` can be a
        generator.
        """
        return embedded(strings(texts), self, window, batch_characters, _GROUP * batch_characters, spans)

    def encode(self, reading: Reading, base: Base) -> Tensor:
        """See `Model.encode`."""
        # A part needs gradients and a base does not, so with gradients a model that is both runs once as each.
        if self is base or not torch.is_grad_enabled():
            return reading.features(self)
        encoded: Tensor = self(reading.ids, reading)
        return encoded

    def adopt_base(self) -> None:
        """See `Model.adopt_base`."""
        self.base.adopt_base()
        for part in self._parts.values():
            part.adopt_base()
            if isinstance(part, Component) and part.card.base_digest is not None:
                part.card = part.card.model_copy(update={"base_digest": self.base.digest})
        self.card = self.card.model_copy(update={"base_digest": self.base.digest})

    def untrained(self, seed: int) -> "ComposedModel":
        """A control with the same architecture and random weights from `seed`. Bases are not changed."""
        parts = {name: part.untrained(derive_seed(seed, "part", name)) for name, part in self._parts.items()}
        with seeded_initialization(derive_seed(seed, "fusion")):
            return ComposedModel(self.base, parts, self.name, self.card.fusion)

    def replaced(self, name: str, part: "Part") -> "ComposedModel":
        """A new composition with `part` in place of the part `name`, under that name. Nothing else changes.

        Raises:
            CompositionError: there is no part `name`, or `part` does not fit.
        """
        parts = self._parts | {self._known(name): _as_part(part)}
        return self._recomposed(parts, self._parts)

    def without(self, name: str) -> "ComposedModel":
        """A new composition without the part `name`. Nothing else changes.

        Raises:
            CompositionError: there is no part `name`.
            ConfigError: it is the only part.
        """
        parts = {other: part for other, part in self._parts.items() if other != self._known(name)}
        return self._recomposed(parts, self._parts)

    def renamed(self, old: str, new: str) -> "ComposedModel":
        """A new composition that calls the part `old` `new`, at the same place. Its digest is the same.

        Raises:
            CompositionError: there is no part `old`.
            ConfigError: another part is called `new`, or the name is not allowed.
        """
        self._known(old)
        if new != old and new in self.components:
            raise ConfigError(f"names of parts must be unique, got {new!r} twice. Choose another name for {old!r}.")
        parts = {new if name == old else name: part for name, part in self._parts.items()}
        return self._recomposed(parts, parts)

    def extra_repr(self) -> str:
        """Name, fusion, parts, size and digest, for `repr`."""
        return f"{self.name!r}, fusion={self.card.fusion.kind!r}, parts={list(self.parts)}, {self._summary()}"

    def _known(self, name: str) -> str:
        if name not in self.components:
            raise CompositionError(f"{self.described} has no part {name!r:.80}; {nearest(str(name), list(self.parts))}")
        return name

    def _carded(
        self, names: Sequence[str], parts: Sequence[nn.Module | None], facts: Mapping[str, Any]
    ) -> CompositionCard:
        """The card of a composition of `parts`; checks that they fit together."""
        is_nested = any(isinstance(model, ComposedModel) for model in (self.base, *parts))
        values = {"format": "cclm-composition-2" if is_nested else "cclm-composition-1", "parts": names, **facts}
        card = CompositionCard.parse(values, f"the composition {facts['name']!r:.80}")
        for part in parts:
            _check(part, self.base)
        depth = 1 + max(_depth(model) for model in (self.base, *parts))
        if depth > MAX_DEPTH:
            raise CompositionError(f"compositions must be nested at most {MAX_DEPTH} deep, got {depth}.")
        self.depth = depth
        return card

    def _recompose(self, parts: Mapping[str, nn.Module | None]) -> None:
        """Adopts the parts that `components` is about to hold; raises, and changes nothing, if they do not fit."""
        facts = {"name": self.name, "fusion": self.card.fusion, "base_digest": self.card.base_digest}
        card = self._carded(list(parts), list(parts.values()), facts)
        checked = cast("dict[str, Part]", dict(parts))
        self.fusion = rebuilt(self.fusion, card.fusion, self._parts, checked)
        self.card = card

    def _recomposed(self, parts: "Mapping[str, Part]", before: "Mapping[str, Part]") -> "ComposedModel":
        """A composition of `parts` with a copy of the fusion; `before`: the parts of the fusion, by the new names."""
        model = ComposedModel(self.base, parts, self.name, self.card.fusion, train_base=self.train_base)
        model.fusion = copy.deepcopy(rebuilt(self.fusion, self.card.fusion, before, parts))
        model.training = self.training
        return model

    def _outputs(self, reading: Reading) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = {}
        for name, part in self._parts.items():
            if isinstance(part, Component):
                outputs[name] = part.encode(reading, self.base)
                continue
            inner = part._outputs(reading)
            outputs[name] = part._joined(inner, reading)
            outputs |= {f"{name}/{path}": features for path, features in inner.items()}
        return outputs

    def _joined(self, features: dict[str, Tensor], reading: Reading) -> Tensor:
        if isinstance(self.fusion, Component):
            return self.fusion.encode(reading, self.base)
        joined: Tensor = self.fusion({name: features[name] for name in self.parts})
        return joined

    def _batch(self, ids: Tensor | npt.NDArray[Any]) -> Tensor:
        batch = as_ids(ids)
        if not isinstance(ids, Tensor):
            batch = batch.to(device_of(self))
        return batch[None] if batch.ndim == 1 else batch


Part = Component | ComposedModel
"""A part of a composition."""


def _named(components: "Iterable[Part] | Mapping[str, Part]") -> tuple[list[str], list[Part]]:
    """Names and parts of a new composition."""
    if isinstance(components, nn.Module | str) or not isinstance(components, Iterable):
        raise CompositionError(f"`components` must be a list of parts, got {type(components).__name__}. Use `[part]`.")
    if isinstance(components, Mapping):
        return list(components), [_as_part(part) for part in components.values()]
    parts = [_as_part(part) for part in components]
    return [part.name for part in parts], parts


def _as_part(part: Any) -> Part:
    """A part of a composition: a component, a composition, or the model of a pretrainer."""
    if isinstance(part, Component | ComposedModel):
        return part
    model = getattr(part, "model", None)
    if isinstance(model, Component | ComposedModel):
        return model
    kind = "an Embedder, which is a base" if isinstance(part, Embedder) else type(part).__name__
    raise CompositionError(
        f"a part must be a Component, a ComposedModel or a fitted pretrainer, got {kind}. Put your own layers on top "
        "of the composition."
    )


def _depth(model: nn.Module | None) -> int:
    """The number of compositions inside each other in a model; 0 for an embedder or a component."""
    if isinstance(model, Component) and model.own_base is not None:
        return _depth(model.own_base)
    return model.depth if isinstance(model, ComposedModel) else 0


def _check(part: nn.Module | None, base: Base) -> None:
    if not isinstance(part, Component | ComposedModel):
        raise CompositionError(f"a part must be a Component or a ComposedModel, got {type(part).__name__}.")
    if isinstance(part, Component):
        part.card.check(base)
    else:
        check_vocabulary(part.name, part.preprocessor, base)
