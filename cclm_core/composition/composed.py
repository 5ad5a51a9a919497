"""Several components over one base, as one model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cclm_core.artifacts import read_json, write_json
from cclm_core.composition.component import Component, features_of
from cclm_core.composition.fusion import FusionName, averaged, build_fusion
from cclm_core.composition.windows import join_windows, split_windows
from cclm_core.config import Config
from cclm_core.device import device_of
from cclm_core.embedder import Embedder
from cclm_core.errors import CompositionError

CARD, BASE, PARTS, FUSION = "composition.json", "base", "parts", "fusion.safetensors"


class CompositionCard(Config):
    """What a composition is made of."""

    format: Literal["cclm-composition-1"] = "cclm-composition-1"
    name: str
    fusion: FusionName
    parts: tuple[str, ...] = Field(description="names of the components, in the order of their features")
    base_digest: str


class ComposedModel(nn.Module):
    """Joins the features of components over one frozen base, independent ones beside it, by a fusion.

    Parts are never changed by composing: they come out as they went in. `features` gives what each says on its own.

    Args:
        base: the embedder on which every component was trained.
        components: the parts, in the order of their features; their names must differ.
        name: what the composition is called.
        fusion: how features become one, see `composition.fusion`.

    Raises:
        CompositionError: no part, a name twice, or a part that was trained on another base or vocabulary, or a causal
            part over a base that is not causal. An independent part needs the same vocabulary alone. Or parts that
            the fusion cannot join.
    """

    def __init__(
        self,
        base: Embedder,
        components: Sequence[Component],
        name: str = "composition",
        fusion: FusionName = "concatenation",
    ) -> None:
        super().__init__()
        digest = base.digest
        _check(base, digest, components)
        self.base = base.freeze()
        self.components = nn.ModuleDict({component.card.name: component for component in components})
        self._components = {component.card.name: component for component in components}  # the same, with their type
        self.preprocessor = base.preprocessor
        self.fusion = build_fusion(fusion, components)
        self.average = averaged(components) if self.fusion is None else None
        self.width = components[0].width if self.fusion is None else self.fusion.width
        names = tuple(component.card.name for component in components)
        self.card = CompositionCard(name=name, fusion=fusion, parts=names, base_digest=digest)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the components, in the order of their features."""
        return self.card.parts

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64, 0 for padding, any L ≥ 0, as (B, L, `width`) float32."""
        if self.fusion is None:
            assert self.average is not None
            return features_of(self.base, {"average": self.average}, ids)["average"]
        joined: Tensor = self.fusion(self.features(ids))
        return joined

    def features(self, ids: Tensor) -> dict[str, Tensor]:
        """The features (B, L, width) of each component, by name, in order."""
        return features_of(self.base, self._components, ids)

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
        assert window >= 2
        encoded = [self.preprocessor.encode(text) for text in texts]
        pieces = split_windows([len(ids) for ids in encoded], window)
        order = sorted(range(len(pieces)), key=lambda number: pieces[number].size)
        rows: list[npt.NDArray[np.float32]] = [np.zeros((0, self.width), np.float32)] * len(pieces)
        device = device_of(self)
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and pieces[order[stop]].size * (stop + 1 - start) <= batch_characters:
                stop += 1
            chosen = order[start:stop]
            batch = np.zeros((len(chosen), pieces[chosen[-1]].size), dtype=np.int64)
            for row, number in enumerate(chosen):
                piece = pieces[number]
                batch[row, : piece.size] = encoded[piece.text][piece.start : piece.start + piece.size]
            with torch.inference_mode():
                output = self(torch.from_numpy(batch).to(device)).cpu().numpy()
            for row, number in enumerate(chosen):
                rows[number] = output[row, : pieces[number].size]
            start = stop
        return join_windows(rows, pieces, [len(ids) for ids in encoded])

    def save(self, folder: Path) -> None:
        """Writes base, parts and card into `folder`, which then needs nothing else to load."""
        (folder / BASE).mkdir()
        self.base.save(folder / BASE)
        for name, component in self.components.items():
            (folder / PARTS / name).mkdir(parents=True)
            assert isinstance(component, Component)
            component.save(folder / PARTS / name)
        if self.fusion is not None and (state := self.fusion.state_dict()):
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / FUSION)
        write_json(folder / CARD, self.card.canonical())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
            CompositionError: the parts do not belong together.
        """
        card = CompositionCard.parse(read_json(folder / CARD), str(folder / CARD))
        components = [Component.load(folder / PARTS / name) for name in card.parts]
        model = cls(Embedder.load(folder / BASE), components, card.name, card.fusion)
        if model.fusion is not None and model.fusion.state_dict():
            model.fusion.load_state_dict(load_file(folder / FUSION))
        return model.eval()


def _check(base: Embedder, digest: str, components: Sequence[Component]) -> None:
    if not components:
        raise CompositionError("a composition must have at least one component, got none.")
    seen: set[str] = set()
    for component in components:
        card = component.card
        if card.name in seen:
            raise CompositionError(f"the parts of a composition must have different names, got {card.name!r} twice.")
        seen.add(card.name)
        if card.preprocessor_digest != base.preprocessor.digest:
            raise CompositionError(
                f"the component {card.name!r} must share the vocabulary of the base: it was trained with "
                f"{card.preprocessor_digest[:12]}, the base has {base.preprocessor.digest[:12]}. Retrain it."
            )
        if card.independent is not None:
            continue
        card.check_causal(base)
        if card.base_digest != digest:
            assert card.base_digest is not None
            raise CompositionError(
                f"the component {card.name!r} must have been trained on this base: it was trained on "
                f"{card.base_digest[:12]}, this one is {digest[:12]}. Retrain it."
            )
