"""A composition: several parts over one base as one model, which can itself be a base or a part."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.composition.component import Component
from cclm_core.composition.config import CompositionCard
from cclm_core.composition.fusion import Concatenation, FusionConfig
from cclm_core.composition.long_texts import WINDOW, TextReader
from cclm_core.encoders.embedder import Base, Embedder, Reading
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.random import derive_seed, seeded_initialization
from cclm_core.text.vocabulary import Preprocessor


class ComposedModel(Base):
    """Joins the features of several parts over one base.

    The base is an embedder or a composition. A part is a component, or a composition over the same base or over its own
    base with the same vocabulary. Bases of equal digest run once per batch, at any depth, and are saved once.

    Composing does not change weights, `requires_grad` or the mode of any part or base. Parts are referenced, not
    copied, so training the composition trains them. The base is read without gradients and keeps its digest.

    Args:
        base: the base that every part was trained on.
        components: the parts, in the order of their features; names must be unique.
        name: the name of the composition.
        fusion: how features are joined: a name or a configuration from `composition.fusion`.
        train_base: whether gradients reach the bases, for weights that require them. A nested composition follows the
            setting of the outermost model. Call `adopt_base` after training, before you save.

    Raises:
        ConfigError: no parts, a repeated or invalid name, or an unknown fusion.
        CompositionError: a part was trained on another base or vocabulary, a part is causal and the base is
            bidirectional, or the fusion cannot join the parts. An independent part only needs the same vocabulary.
    """

    def __init__(
        self,
        base: Base,
        components: "Sequence[Part]",
        name: str = "composition",
        fusion: FusionConfig | str = "concatenation",
        *,
        train_base: bool = False,
    ) -> None:
        super().__init__()
        is_nested = any(isinstance(model, ComposedModel) for model in (base, *components))
        card = {
            "format": "cclm-composition-2" if is_nested else "cclm-composition-1",
            "name": name,
            "fusion": fusion,
            "parts": [part.name for part in components],
            "base_digest": base.digest,
        }
        self.card = CompositionCard.parse(card, f"the composition {name!r}")
        for part in components:
            _check(part, base)
        self.base, self.preprocessor, self.train_base = base, base.preprocessor, train_base
        self.components = torch.nn.ModuleDict(dict(zip(self.card.parts, components, strict=True)))
        self.fusion = self.card.fusion.build(self._parts).to(device_of(components[0]))
        self.width = self.fusion.width

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

    def forward(self, ids: Tensor | npt.NDArray[Any], reading: Reading | None = None) -> Tensor:
        """Embeds ids as features (B, L, `width`) float32.

        Args:
            ids: (B, L) or (L,) int64, 0 for padding, L ≥ 0. An array, e.g. from `Preprocessor.string_to_array`, is
                moved to the device of the model.
            reading: the same ids, shared with an enclosing model, if any.
        """
        reading = reading or Reading(self._batch(ids), self.train_base)
        parts = {} if isinstance(self.fusion, Component) else self._parts
        return self._joined({name: part.encode(reading, self.base) for name, part in parts.items()}, reading)

    def features(self, ids: Tensor | npt.NDArray[Any]) -> dict[str, Tensor]:
        """The features (B, L, width) of each part, by name, in order.

        A composition is followed by its own parts, keyed by path: `outer`, `outer/inner`.
        """
        return self._outputs(Reading(self._batch(ids), self.train_base))

    def embed(
        self, texts: Sequence[str], window: int = WINDOW, batch_characters: int = 32768
    ) -> list[npt.NDArray[np.float32]]:
        """Embeds texts of any length, including empty ones: one array (L, width) per text, one row per id.

        Args:
            texts: the strings.
            window: maximum ids per window, at least 1. Longer texts are read in windows that overlap by half; see
                `TextReader`.
            batch_characters: ids per forward pass, including padding.
        """
        reader = TextReader(self, window=window, batch_characters=batch_characters, causal=self.causal)
        encoded = [self.preprocessor.encode(text) for text in texts]
        return [features.numpy() for features in reader.whole(encoded, self.width)]

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
        parts = [part.untrained(derive_seed(seed, "part", part.name)) for part in self._parts.values()]
        with seeded_initialization(derive_seed(seed, "fusion")):
            return ComposedModel(self.base, parts, self.name, self.card.fusion)

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
        batch = ids if isinstance(ids, Tensor) else torch.as_tensor(ids, dtype=torch.int64).to(device_of(self))
        return batch[None] if batch.ndim == 1 else batch


Part = Component | ComposedModel
"""A part of a composition."""


def _check(part: Part, base: Base) -> None:
    if isinstance(part, Component):
        part.card.check(base)
    elif part.preprocessor.digest != base.preprocessor.digest:
        raise CompositionError(
            f"the composition {part.name!r} must share the vocabulary of the base: it has vocabulary "
            f"{_summary(part.preprocessor)}, {base.described} has {_summary(base.preprocessor)}. Compose parts "
            "with the same vocabulary."
        )


def _summary(preprocessor: Preprocessor) -> str:
    """A vocabulary in an error message."""
    form = preprocessor.config.normalisation or "none"
    return f"{preprocessor.digest[:12]} ({len(preprocessor.alphabet)} characters, normalisation {form})"
