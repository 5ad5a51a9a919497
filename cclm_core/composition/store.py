"""Saving and loading embedders, components and compositions, nested to any depth.

```
embedder.json  embedder.safetensors  preprocessor.json     an embedder; see encoders/store.py
component.json  component.safetensors  [base/]             a component; a fork includes its copy of a base
composition.json  [fusion.safetensors]  [base/]  parts/    a composition; a base that the outermost folder
                                                           already contains is not saved again
```
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

import torch

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel, Part
from cclm_core.composition.config import CompositionCard
from cclm_core.composition.fusion import averaged
from cclm_core.encoders import store as embedders
from cclm_core.encoders.embedder import Base, Embedder, Model
from cclm_core.encoders.store import load_weights, save_weights
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.errors import ArtifactError, CompositionError

Kind = Literal["embedder", "component", "composition"]

CARDS: dict[Kind, str] = {
    "embedder": embedders.CARD,
    "component": "component.json",
    "composition": "composition.json",
}
"""The file that marks a folder as one kind of model."""

PREPROCESSOR = embedders.PREPROCESSOR
_WEIGHTS = "component.safetensors"
_FUSION = "fusion.safetensors"
_BASE, _PARTS = "base", "parts"
_OWN = "embedding."  # prefix of the weights of a component's own embedding or base


def save(model: Model, folder: Path) -> None:
    """Writes a model into an existing folder. Only a component over a shared base needs other files to run: its base.

    Raises:
        CompositionError: the base of a composition has changed since it was composed.
    """
    _save(model, folder, set())


def load(folder: Path) -> Base | Component:
    """Reads the embedder, component or composition in a folder. The base of a composition is frozen.

    Raises:
        ArtifactError: the folder contains no model, or a file is missing or damaged.
        CompositionError: the parts of a composition do not fit together.
    """
    return _Loading().load(folder, *CARDS)


def load_embedder(folder: Path) -> Embedder:
    """Reads an embedder. Raises like `load`, and if the folder contains another kind of model."""
    return cast("Embedder", _Loading().load(folder, "embedder"))


def load_component(folder: Path) -> Component:
    """Reads a component. Raises like `load`, and if the folder contains another kind of model."""
    return cast("Component", _Loading().load(folder, "component"))


def load_composition(folder: Path) -> ComposedModel:
    """Reads a composition. Raises like `load`, and if the folder contains another kind of model."""
    return cast("ComposedModel", _Loading().load(folder, "composition"))


def load_base(folder: Path) -> Base:
    """Reads an embedder or a composition. Raises like `load`, and if the folder contains a component."""
    return _Loading().base(folder)


def load_all(base: Path, parts: Sequence[Path]) -> tuple[Base, list[Part]]:
    """Reads a base and the parts to compose over it. Equal bases become one object. Raises like `load`."""
    loading = _Loading()
    return loading.base(base), [loading.part(folder) for folder in parts]


def kind_of(folder: Path) -> Kind:
    """The kind of model in a folder.

    Raises:
        ArtifactError: the folder contains no card of a model, or several.
    """
    kinds = [kind for kind, card in CARDS.items() if (folder / card).is_file()]
    if len(kinds) != 1:
        cards = ", ".join(CARDS[kind] for kind in kinds) or "none"
        raise ArtifactError(
            f"{folder} must contain exactly one of {', '.join(CARDS.values())}, got {cards}. Use a folder written by "
            "`save` or by a stage."
        )
    return kinds[0]


def _save(model: Model, folder: Path, saved: set[str]) -> None:
    """Writes a model, except bases whose digest is in `saved`; adds the digests of the bases that it writes."""
    match model:
        case Embedder():
            embedders.save_embedder(model, folder)
        case Component():
            state = model.state_dict()
            if model.own_base is not None:
                model.adopt_base()
                _save(model.own_base, _created(folder / _BASE), set())
                state = {name: tensor for name, tensor in state.items() if not name.startswith(_OWN)}
            save_weights(state, folder / _WEIGHTS)
            write_json(folder / CARDS["component"], model.card.canonical())
        case ComposedModel():
            _check_base(model)
            if model.base.digest not in saved:
                _save(model.base, _created(folder / _BASE), saved)
            for name in model.parts:
                _save(model.part(name), _created(folder / _PARTS / name), saved)
            if _has_own_weights(model):
                save_weights(model.fusion.state_dict(), folder / _FUSION)
            write_json(folder / CARDS["composition"], model.card.canonical())
    if isinstance(model, Base):
        saved.add(model.digest)


def _check_base(model: ComposedModel) -> None:
    current, expected = model.base.digest, model.card.base_digest
    if current != expected:
        raise CompositionError(
            f"cannot save the composition {model.name!r}: its base has changed since the parts were trained on it, "
            f"from {expected[:12]} to {current[:12]}. Call `freeze()` on a base before you train over it. If you "
            "trained base and parts together, call `adopt_base()`."
        )


class _Loading:
    """The state of one load: the bases read so far, by digest, and the open folders, outermost first."""

    def __init__(self) -> None:
        self._bases: dict[str, Base] = {}
        self._folders: list[Path] = []

    def load(self, folder: Path, *kinds: Kind) -> Base | Component:
        """Reads a model of one of `kinds`."""
        kind = kind_of(folder)
        if kind not in kinds:
            raise ArtifactError(f"{folder} must contain a model of kind {' or '.join(kinds)}, got {kind}.")
        match kind:
            case "embedder":
                return embedders.load_embedder(folder)
            case "component":
                return _component(folder)
            case "composition":
                return self._composition(folder)

    def base(self, folder: Path) -> Base:
        """Reads a base; returns the object already read if the digests are equal."""
        return self._first_equal(cast("Base", self.load(folder, "embedder", "composition")))

    def part(self, folder: Path) -> Part:
        """Reads a part; returns the base already read if it is that base."""
        model = cast("Part", self.load(folder, "component", "composition"))
        if isinstance(model, Component):
            return model
        base = self._first_equal(model)  # the base itself can be among the parts
        return base if isinstance(base, ComposedModel) and base.name == model.name else model

    def _first_equal(self, base: Base) -> Base:
        """The first base that was read with this digest."""
        return self._bases.setdefault(base.digest, base)

    def _composition(self, folder: Path) -> ComposedModel:
        resolved = folder.resolve()
        if resolved in self._folders:
            raise ArtifactError(f"{folder} is a link to a folder that contains it, {resolved}. Remove the link.")
        self._folders.append(resolved)
        path = folder / CARDS["composition"]
        card = CompositionCard.parse(read_json(path), str(path))
        base = self._base_of(folder, card.base_digest)
        model = ComposedModel(base, [self.part(folder / _PARTS / name) for name in card.parts], card.name, card.fusion)
        weights = folder / _FUSION
        if model.fusion.state_dict() and (weights.is_file() or not isinstance(model.fusion, Component)):
            load_weights(model.fusion, weights)
        self._folders.pop()
        return model.eval()

    def _base_of(self, folder: Path, digest: str) -> Base:
        """The base of a composition: in its own folder, or already read if the composition is nested."""
        if (folder / _BASE).is_dir():
            base = self.base(folder / _BASE).freeze()
            if base.digest != digest:
                raise ArtifactError(
                    f"the base in {folder} does not match the card of the composition: expected {digest[:12]}, got "
                    f"{base.digest[:12]}. Compose it again."
                )
            return base
        if digest not in self._bases:
            raise ArtifactError(
                f"base {digest[:12]} not found in {folder / _BASE}. A composition that was saved inside another one "
                "cannot be loaded alone: load the outermost folder."
            )
        return self._bases[digest]


def _component(folder: Path) -> Component:
    path = folder / CARDS["component"]
    card = ComponentCard.parse(read_json(path), str(path))
    own = load_base(folder / _BASE) if card.is_fork else None
    component = Component(card, own)
    load_weights(component, folder / _WEIGHTS, None if own is None else own.state_dict(prefix=_OWN))
    return component


def _has_own_weights(model: ComposedModel) -> bool:
    """Whether the fusion has weights that cannot be computed from the parts."""
    state = model.fusion.state_dict()
    if not isinstance(model.fusion, Component):
        return bool(state)
    mean = averaged({name: model.part(name) for name in model.parts}).state_dict()
    return any(not torch.equal(tensor, mean[name]) for name, tensor in state.items())


def _created(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
