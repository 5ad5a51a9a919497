"""Saving and loading embedders, components and compositions, nested to any depth.

```
embedder.json  embedder.safetensors  preprocessor.json     an embedder; see encoders/store.py
component.json  component.safetensors  [base/]             a component; a fork includes its copy of a base,
                                       [embedding/]        others the words or tokenizer of a pretrained embedding
composition.json  [fusion.safetensors]  [base/]  parts/    a composition; a base that the outermost folder
                                                           already contains is not saved again
```

`save` publishes a folder: it is replaced as a whole, and `manifest.json` lists the digest of every file, which `load`
checks. `write` writes the files alone, into a folder that is being published with others.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import MAX_DEPTH, ComposedModel, Part
from cclm_core.composition.config import CompositionCard
from cclm_core.composition.fusion import averaged
from cclm_core.encoders import store as embedders
from cclm_core.encoders.embedder import Base, Embedder, Model
from cclm_core.encoders.pretrained.base import FOLDER
from cclm_core.encoders.pretrained.catalogue import read_embedding, write_embedding
from cclm_core.encoders.saved_weights import (
    BASE,
    COMPONENT_CARD,
    COMPONENT_WEIGHTS,
    COMPOSITION_CARD,
    FUSION_WEIGHTS,
    PARTS,
)
from cclm_core.encoders.store import freeze_weights, frozen_key, read_card
from cclm_core.encoders.weights import load_weights, save_weights
from cclm_core.runtime.artifacts import MANIFEST, publishing, verify, write_json
from cclm_core.runtime.blocks import code_in
from cclm_core.runtime.errors import ArtifactError, CompositionError
from cclm_core.runtime.initialization import without_storage
from cclm_core.runtime.own_code import CODE, carried, write_code

StrPath = str | os.PathLike[str]

Kind = Literal["embedder", "component", "composition"]

CARDS: dict[Kind, str] = {
    "embedder": embedders.CARD,
    "component": COMPONENT_CARD,
    "composition": COMPOSITION_CARD,
}
"""The file that marks a folder as one kind of model."""

PREPROCESSOR = embedders.PREPROCESSOR
_WEIGHTS, _FUSION, _BASE, _PARTS = COMPONENT_WEIGHTS, FUSION_WEIGHTS, BASE, PARTS
_OWN = "embedding."  # prefix of the weights of a component's own embedding or base
_FILES = {
    *CARDS.values(),
    PREPROCESSOR,
    embedders.WEIGHTS,
    _WEIGHTS,
    _FUSION,
    _BASE,
    _PARTS,
    FOLDER,
    CODE,
    MANIFEST,
}
"""All files and folders that `save` makes at the top."""


def save(model: Model, folder: StrPath) -> None:
    """Publishes a model at `folder`. Only a component over a shared base needs other files to run: its base.

    The folder is created, or replaced as a whole if it holds a model that was saved before: whatever interrupts the
    call, `load` reads the old model or the new one.

    Args:
        model: an embedder, a component or a composition.
        folder: a new folder, an empty one, or one with a saved model and nothing else.

    Raises:
        ArtifactError: `folder` is a file, holds other files, or is being written by another process.
        CompositionError: the base of a composition has changed since it was composed.
    """
    target = Path(folder)
    kind = _kind_of_model(model)
    _check_replaceable(target)
    with publishing(target, kind) as temporary:
        write(model, temporary)


def write(model: Model, folder: Path) -> None:
    """Writes a model into an existing folder, without a manifest, to publish it with other files.

    Raises:
        CompositionError: the base of a composition has changed since it was composed.
    """
    _kind_of_model(model)
    _save(model, folder, set(), {}, _frozen_key(model))


def load(folder: StrPath) -> Base | Component:
    """Reads the embedder, component or composition in a folder. The base of a composition is frozen.

    Every file is checked against the manifest, if there is one. Weights that were frozen when they were saved are
    frozen.

    Raises:
        ArtifactError: the folder contains no model, or a file is missing or damaged.
        IntegrityError: a file differs from the manifest.
        CompositionError: the parts of a composition do not fit together.
    """
    return _Loading().open(folder, *CARDS)


def load_embedder(folder: StrPath) -> Embedder:
    """Reads an embedder. Raises like `load`, and if the folder contains another kind of model."""
    return cast("Embedder", _Loading().open(folder, "embedder"))


def load_component(folder: StrPath) -> Component:
    """Reads a component. Raises like `load`, and if the folder contains another kind of model."""
    return cast("Component", _Loading().open(folder, "component"))


def load_composition(folder: StrPath) -> ComposedModel:
    """Reads a composition. Raises like `load`, and if the folder contains another kind of model."""
    return cast("ComposedModel", _Loading().open(folder, "composition"))


def load_base(folder: StrPath) -> Base:
    """Reads an embedder or a composition. Raises like `load`, and if the folder contains a component."""
    return cast("Base", _Loading().open(folder, "embedder", "composition"))


def load_all(base: StrPath, parts: Sequence[StrPath]) -> tuple[Base, list[Part]]:
    """Reads a base and the parts to compose over it. Equal bases become one object. Raises like `load`."""
    loading = _Loading()
    for folder in (base, *parts):
        _verify(Path(folder))
    return loading.base(Path(base)), [loading.part(Path(folder)) for folder in parts]


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


def _save(model: Model, folder: Path, saved: set[str], changes: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Writes a model, except bases whose digest is in `saved`; adds the digests of the bases that it writes.

    Args:
        model: the model.
        folder: an empty folder.
        saved: digests of the bases that are in the outermost folder already.
        changes: keys of its card to change: its name, in the composition that it is a part of.
        facts: keys to add to its card.
    """
    match model:
        case Embedder():
            embedders.save_embedder(model, folder, facts)
        case Component():
            state = model.state_dict()
            if model.own_base is not None:
                model.adopt_base()
                _save(model.own_base, _created(folder / _BASE), set(), {}, {})
                state = {name: tensor for name, tensor in state.items() if not name.startswith(_OWN)}
            save_weights(state, folder / _WEIGHTS)
            write_embedding(model.embedding, folder)
            write_code(folder, code_in(model.card))
            card = model.card.model_copy(update=dict(changes))
            write_json(folder / CARDS["component"], {**card.canonical(), **facts})
        case ComposedModel():
            _check_base(model)
            if model.base.digest not in saved:
                _save(model.base, _created(folder / _BASE), saved, {}, {})
            for name in model.parts:
                _save(model.part(name), _created(folder / _PARTS / name), saved, {"name": name}, {})
            if _has_own_weights(model):
                save_weights(model.fusion.state_dict(), folder / _FUSION)
            write_code(folder, code_in(model.card.fusion))
            card_of_all = model.card.model_copy(update=dict(changes))
            write_json(folder / CARDS["composition"], {**card_of_all.canonical(), **facts})
    if isinstance(model, Base):
        saved.add(model.digest)


def _frozen_key(model: Model) -> dict[str, Any]:
    """The key `frozen` of the card of a saved model. Bases of compositions are always frozen when they are loaded."""
    bases = [module.base for module in model.modules() if isinstance(module, ComposedModel)]
    return frozen_key(model, {id(parameter) for base in bases for parameter in base.parameters()})


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

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._bases: dict[str, Base] = {}
        self._folders = list(folders)

    def open(self, folder: StrPath, *kinds: Kind) -> Base | Component:
        """Checks the files of the outermost folder, and reads a model of one of `kinds`."""
        _verify(Path(folder))
        model = self.load(Path(folder), *kinds)
        return self._first_equal(model) if isinstance(model, Base) else model

    def load(self, folder: Path, *kinds: Kind) -> Base | Component:
        """Reads a model of one of `kinds`."""
        kind, resolved = kind_of(folder), folder.resolve()
        if kind not in kinds:
            raise ArtifactError(f"{folder} must contain a model of kind {' or '.join(kinds)}, got {kind}.")
        if resolved in self._folders:
            raise ArtifactError(f"{folder} is a link to a folder that contains it, {resolved}. Remove the link.")
        if len(self._folders) > 2 * MAX_DEPTH:
            raise ArtifactError(f"models must be nested at most {MAX_DEPTH} deep, but {folder} is deeper.")
        self._folders.append(resolved)
        match kind:
            case "embedder":
                model: Base | Component = embedders.load_embedder(folder)
            case "component":
                model = self._component(folder)
            case "composition":
                model = self._composition(folder)
        self._folders.pop()
        return model

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

    def _component(self, folder: Path) -> Component:
        path = folder / CARDS["component"]
        values, frozen = read_card(path)
        with carried(folder):
            card = ComponentCard.parse(values, str(path))
        own = _Loading(self._folders).base(folder / _BASE) if card.is_fork else None
        with without_storage():
            pretrained = card.pretrained
            component = Component(card, own, None if pretrained is None else read_embedding(pretrained, folder))
        others = () if own is None else tuple(f"{_OWN}{name}" for name in own.state_dict())
        load_weights(component, folder / _WEIGHTS, others)
        freeze_weights(component, frozen, path)
        return component

    def _composition(self, folder: Path) -> ComposedModel:
        path = folder / CARDS["composition"]
        values, frozen = read_card(path)
        with carried(folder):
            card = CompositionCard.parse(values, str(path))
        base = self._base_of(folder, card.base_digest)
        model = ComposedModel(
            base, {name: self.part(folder / _PARTS / name) for name in card.parts}, card.name, card.fusion
        )
        weights = folder / _FUSION
        if model.fusion.state_dict() and (weights.is_file() or not isinstance(model.fusion, Component)):
            load_weights(model.fusion, weights)
        freeze_weights(model, frozen, path)
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


def _verify(folder: Path) -> None:
    """Checks a folder against its manifest, if it has one."""
    if (folder / MANIFEST).is_file():
        verify(folder, *CARDS)


def _kind_of_model(model: Model) -> Kind:
    match model:
        case Embedder():
            return "embedder"
        case Component():
            return "component"
        case ComposedModel():
            return "composition"
    raise ArtifactError(
        f"`save` takes an Embedder, a Component or a ComposedModel, got {type(model).__name__}. Use `torch.save` for "
        "other modules."
    )


def _check_replaceable(folder: Path) -> None:
    """Refuses a folder with files that `save` did not make, since it would delete them."""
    others = sorted({path.name for path in folder.iterdir()} - _FILES) if folder.is_dir() else []
    if others:
        raise ArtifactError(
            f"{folder} must be empty or hold a saved model and nothing else, got {', '.join(others[:5])}. Choose "
            "another folder."
        )


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
