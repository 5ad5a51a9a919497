"""Several parts over one base, as one model, which may be a base or a part in turn."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cclm_core.composition.card import CompositionCard, FusionName, check_names
from cclm_core.composition.fusion import averaged, build_fusion
from cclm_core.composition.long_texts import embed_texts
from cclm_core.composition.part import Part
from cclm_core.encoders.embedder import Base, Reading, load_weights, weights_digest
from cclm_core.encoders.embedding import EmbeddingConfig
from cclm_core.runtime.artifacts import write_json
from cclm_core.runtime.config import canonical_json
from cclm_core.runtime.device import device_of
from cclm_core.runtime.errors import CompositionError
from cclm_core.runtime.random import derive_seed, seeded_initialisation
from cclm_core.text.vocabulary import Preprocessor

CARD, BASE, PARTS, FUSION = "composition.json", "base", "parts", "fusion.safetensors"


class ComposedModel(Base, Part):
    """Joins the features of parts over one base, independent ones beside it, by a fusion.

    A part is a component, or a composition: over the same base, or over one that it brings along and that then has the
    same vocabulary. The base is an embedder, or a composition. Wherever a base is met again, at whatever depth, it is
    the same object (recognised by its digest), runs once for all and is saved once.

    Composing changes no part and no base: not their weights, nor whether they ask for gradients, nor their mode. The
    parts are held, not copied: what trains the composition trains them. The base is read without gradients, so that it
    stays what the parts were trained on.

    Args:
        base: the embedder, or composition, on which every part was trained.
        components: the parts, in the order of their features; their names must differ.
        name: what the composition is called.
        fusion: how features become one, see `composition.fusion`.
        train_base: whether gradients reach the base and those below it, as far as their weights ask for them; inside of
            another model, that one's counts. What is trained so is saved only after `adopt_base`.

    Raises:
        CompositionError: no part, a name twice, or a part that was trained on another base or vocabulary, or a causal
            part over a base that is not causal. An independent part needs the same vocabulary alone. Or parts that
            the fusion cannot join.
    """

    def __init__(
        self,
        base: Base,
        components: Sequence[Part],
        name: str = "composition",
        fusion: FusionName = "concatenation",
        *,
        train_base: bool = False,
    ) -> None:
        super().__init__()
        names = tuple(part.name for part in components)
        check_names(names)
        known: dict[str, Base] = {}
        self.base = base.shared(known)
        digest = _digest_of(self.base, known)
        parts = [part.placed(self.base, digest, known) for part in components]
        self.components = nn.ModuleDict(dict(zip(names, parts, strict=True)))
        self._parts = dict(zip(names, parts, strict=True))  # the same, with their type
        self.preprocessor, self.train_base = base.preprocessor, train_base
        joint = build_fusion(fusion, parts)
        self.fusion = None if joint is None else joint.to(device_of(parts[0]))
        self.average = averaged(parts) if self.fusion is None else None
        self.width = parts[0].width if self.fusion is None else self.fusion.width
        nested = any(isinstance(one, ComposedModel) for one in (self.base, *parts))
        self.card = CompositionCard(
            format="cclm-composition-2" if nested else "cclm-composition-1",
            name=name,
            fusion=fusion,
            parts=names,
            base_digest=digest,
        )

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the components, in the order of their features."""
        return self.card.parts

    @property
    def causal(self) -> bool:
        return all(part.causal for part in self._parts.values())

    @property
    def title(self) -> str:
        return f"the composition {self.name!r}"

    @property
    def shape(self) -> str:
        return f"{self.card.fusion} of {', '.join(map(repr, self.parts))}, causal: {str(self.causal).lower()}"

    @property
    def embedding_config(self) -> EmbeddingConfig:
        return self.base.embedding_config

    @property
    def digest(self) -> str:
        made = {
            "format": "cclm-composition",
            "base": self.base.digest,
            "fusion": self.card.fusion,
            "parts": [part.identity for part in self._parts.values()],
        }
        return weights_digest(self._joint, canonical_json(made))

    @property
    def identity(self) -> str:
        return self.digest

    @property
    def _joint(self) -> nn.Module:
        """What holds the weights of the fusion; of `average`, those that it starts from the mean of."""
        joint = self.average if self.fusion is None else self.fusion
        assert joint is not None
        return joint

    @property
    def columns(self) -> dict[str, slice]:
        """Where the features of each part stand among those of the composition; empty where the fusion mixes them."""
        if self.card.fusion != "concatenation":
            return {}
        ends = list(accumulate(part.width for part in self._parts.values()))
        return {name: slice(end - part.width, end) for end, (name, part) in zip(ends, self._parts.items(), strict=True)}

    def word_starts(self, ids: Tensor) -> Tensor:
        return self.base.word_starts(ids)

    def forward(self, ids: Tensor, reading: Reading | None = None) -> Tensor:
        """Embeds `ids` (B, L) int64, 0 for padding, any L ≥ 0, as (B, L, `width`) float32.

        Args:
            ids: what to embed.
            reading: of the same ids, by the model that this one is in; None if it is in none.
        """
        reading = reading or Reading(ids, self.train_base)
        if self.average is not None:
            return self.average.encode(reading, self.base)
        return self._joined({name: part.encode(reading, self.base) for name, part in self._parts.items()})

    def features(self, ids: Tensor) -> dict[str, Tensor]:
        """The features (B, L, width) of each part, by name, in order.

        Behind a part that is a composition come its own parts, by their paths: `outer`, `outer/inner`, `outer/other`.
        """
        outputs = self.outputs(Reading(ids, self.train_base), self.base)
        return {path: features for path, features in outputs.items() if path}

    def embed(
        self, texts: Sequence[str], window: int = 2048, batch_characters: int = 32768
    ) -> list[npt.NDArray[np.float32]]:
        """Embeds texts of any length, the empty one included: one array (L, width) for each, a row per id.

        Args:
            texts: the strings.
            window: ids that the model reads at once, at least 2; a longer text is read in windows that overlap by
                half, and what two windows say of a character is averaged.
            batch_characters: ids per forward pass, padding included.
        """
        device = device_of(self)

        def read(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                features: npt.NDArray[np.float32] = self(torch.from_numpy(ids).to(device)).cpu().numpy()
            return features

        encoded = [self.preprocessor.encode(text) for text in texts]
        return embed_texts(encoded, read, self.width, window, batch_characters)

    def read(self, reading: Reading) -> Tensor:
        features: Tensor = self(reading.ids, reading)
        return features

    def encode(self, reading: Reading, base: Base) -> Tensor:
        # Where gradients tell a part from a base, a part that is a base of others too runs once as each.
        return reading.of(self) if self is base or not torch.is_grad_enabled() else self.read(reading)

    def outputs(self, reading: Reading, base: Base) -> dict[str, Tensor]:  # noqa: ARG002
        said = {name: part.outputs(reading, self.base) for name, part in self._parts.items()}
        if self.average is not None:
            mine = self.average.encode(reading, self.base)
        else:
            mine = self._joined({name: outputs[""] for name, outputs in said.items()})
        paths = {_path(name, rest): value for name, outputs in said.items() for rest, value in outputs.items()}
        return {"": mine, **paths}

    def _joined(self, features: dict[str, Tensor]) -> Tensor:
        assert self.fusion is not None
        joined: Tensor = self.fusion(features)
        return joined

    def shared(self, known: dict[str, Base]) -> Base:
        digest = self.digest
        if digest not in known:
            known[digest] = self._over_known(known)
        return known[digest]

    def placed(self, base: Base, digest: str, known: dict[str, Base]) -> Part:  # noqa: ARG002
        if self.preprocessor.digest != base.preprocessor.digest:
            raise CompositionError(
                f"{self.title} must share the vocabulary of the base: it reads {_described(self.preprocessor)}, "
                f"{base.title} reads {_described(base.preprocessor)}. Compose parts of one vocabulary."
            )
        same = known.get(self.digest)
        if isinstance(same, ComposedModel) and same.name == self.name:
            return same  # the base itself stands among the parts: what it says is passed on
        return self._over_known(known)

    def _over_known(self, known: dict[str, Base]) -> "ComposedModel":
        """This composition; a twin of the same parts, where a base at any depth is known already."""
        base = self.base.shared(known)
        digest = _digest_of(base, known)
        parts = [part.placed(base, digest, known) for part in self._parts.values()]
        if base is self.base and all(one is other for one, other in zip(parts, self._parts.values(), strict=True)):
            return self
        twin = ComposedModel(base, parts, self.name, self.card.fusion, train_base=self.train_base)
        twin.fusion, twin.average, twin.training = self.fusion, self.average, self.training
        return twin

    def untrained(self, seed: int) -> "ComposedModel":
        parts = [part.untrained(derive_seed(seed, "part", part.name)) for part in self._parts.values()]
        with seeded_initialisation(derive_seed(seed, "fusion")):
            return ComposedModel(self.base, parts, self.name, self.card.fusion)

    def adopt_base(self, renamed: dict[str, str] | None = None) -> None:
        renamed = {} if renamed is None else renamed
        old = self.card.base_digest
        if old not in renamed:
            self.base.adopt_base(renamed)
            renamed[old] = self.base.digest
        for part in self._parts.values():
            part.adopt_base(renamed)
        self.card = self.card.model_copy(update={"base_digest": renamed[old]})

    def save(self, folder: Path) -> None:
        """Writes base, parts and card into `folder`, which then needs nothing else to load.

        Raises:
            CompositionError: a base has changed since it was composed.
        """
        self.store(folder, set())

    def store(self, folder: Path, stored: set[Base]) -> None:
        self._check_base_is_the_same()
        if self.base not in stored:
            (folder / BASE).mkdir()
            self.base.store(folder / BASE, stored)
        for name, part in self._parts.items():
            (folder / PARTS / name).mkdir(parents=True)
            part.store(folder / PARTS / name, stored)
        if self._has_learnt:
            state = self._joint.state_dict()
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / FUSION)
        write_json(folder / CARD, self.card.canonical())
        stored.add(self)

    @property
    def _has_learnt(self) -> bool:
        """Whether the fusion has weights that loading cannot tell from the parts."""
        state = self._joint.state_dict()
        if self.average is None:
            return bool(state)
        mean = averaged([*self._parts.values()]).state_dict()
        return any(not torch.equal(tensor, mean[name]) for name, tensor in state.items())

    def _check_base_is_the_same(self) -> None:
        now = self.base.digest
        if now != self.card.base_digest:
            raise CompositionError(
                f"the base of {self.title} must be the one that its parts were trained on, "
                f"{self.card.base_digest[:12]}, but it has changed since, to {now[:12]}. Call `freeze()` on a base "
                "before it is trained with; if base and parts were trained together, call `adopt_base()`."
            )

    @classmethod
    def load(cls, folder: Path) -> "ComposedModel":
        """Reads what `save` wrote; the base comes frozen.

        Raises:
            ArtifactError: a file is missing or damaged.
            CompositionError: the parts do not belong together.
        """
        # What a composition consists of may be compositions, so what reads all kinds stands above them.
        from cclm_core.composition.store import load_composition

        return load_composition(folder)

    def load_fusion(self, folder: Path) -> None:
        """Reads the weights of the fusion, where `save` wrote any.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        if self._joint.state_dict() and (self.average is None or (folder / FUSION).is_file()):
            load_weights(self._joint, folder / FUSION)


def _digest_of(base: Base, known: dict[str, Base]) -> str:
    return next(digest for digest, one in known.items() if one is base)


def _path(name: str, rest: str) -> str:
    return f"{name}/{rest}" if rest else name


def _described(preprocessor: Preprocessor) -> str:
    """A vocabulary in a message."""
    form = preprocessor.config.normalisation or "none"
    return f"{preprocessor.digest[:12]} ({len(preprocessor.alphabet)} characters, normalisation {form})"
