"""Saving and loading: embedders, components and compositions, nested to any depth.

```
embedder.json  embedder.safetensors  preprocessor.json     an embedder
component.json  component.safetensors  [base/]             a component; a fork with its copy of a base
composition.json  [fusion.safetensors]  [base/]  parts/    a composition; a base that is saved elsewhere in the
                                                           outermost folder is left out
```
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel, Part
from cclm_core.composition.config import CompositionCard
from cclm_core.composition.fusion import averaged
from cclm_core.encoders.embedder import Base, Embedder, EmbedderConfig, Model
from cclm_core.runtime.artifacts import read_json, write_json
from cclm_core.runtime.errors import ArtifactError, CompositionError
from cclm_core.text.vocabulary import Preprocessor

Kind = Literal["embedder", "component", "composition"]

CARDS: dict[Kind, str] = {
    "embedder": "embedder.json",
    "component": "component.json",
    "composition": "composition.json",
}
"""The file that tells what a folder holds."""

PREPROCESSOR = "preprocessor.json"
_WEIGHTS = {
    "embedder": "embedder.safetensors",
    "component": "component.safetensors",
    "composition": "fusion.safetensors",
}
_BASE, _PARTS = "base", "parts"
_OWN = "embedding."  # prefix of the weights that a component has below its encoder


def save(model: Model, folder: Path) -> None:
    """Writes everything that a model needs into an existing folder; a component over a base is saved without the base.

    Raises:
        CompositionError: the base of a composition has changed since it was composed.
    """
    _save(model, folder, set())


def load(folder: Path) -> Base | Component:
    """Reads the embedder, component or composition that a folder holds; a composition comes with its base frozen.

    Raises:
        ArtifactError: the folder holds none of them, or a file is missing or damaged.
        CompositionError: the parts of a composition do not fit together.
    """
    return _Loading().load(folder, *CARDS)


def load_embedder(folder: Path) -> Embedder:
    """Reads an embedder; raises like `load`, and if the folder holds something else."""
    return cast("Embedder", _Loading().load(folder, "embedder"))


def load_component(folder: Path) -> Component:
    """Reads a component; raises like `load`, and if the folder holds something else."""
    return cast("Component", _Loading().load(folder, "component"))


def load_composition(folder: Path) -> ComposedModel:
    """Reads a composition; raises like `load`, and if the folder holds something else."""
    return cast("ComposedModel", _Loading().load(folder, "composition"))


def load_base(folder: Path) -> Base:
    """Reads an embedder or a composition; raises like `load`, and if the folder holds a component."""
    return _Loading().base(folder)


def load_all(base: Path, parts: Sequence[Path]) -> tuple[Base, list[Part]]:
    """Reads a base, and parts to compose over it; equal bases among them become one object. Raises like `load`."""
    loading = _Loading()
    return loading.base(base), [loading.part(folder) for folder in parts]


def kind_of(folder: Path) -> Kind:
    """What a folder holds, by the card in it.

    Raises:
        ArtifactError: no card of ours, or several.
    """
    kinds = [kind for kind, card in CARDS.items() if (folder / card).is_file()]
    if len(kinds) != 1:
        cards = ", ".join(CARDS[kind] for kind in kinds) or "none"
        raise ArtifactError(
            f"{folder} must hold one of {', '.join(CARDS.values())}, got {cards}. Name a folder that `save` or a stage "
            "wrote."
        )
    return kinds[0]


def _save(model: Model, folder: Path, saved: set[str]) -> None:
    """Writes a model, without bases whose digest is in `saved`; adds the digests of the bases that it writes."""
    match model:
        case Embedder():
            model.preprocessor.save(folder / PREPROCESSOR)
            _save_weights(model.state_dict(), folder / _WEIGHTS["embedder"])
            write_json(folder / CARDS["embedder"], model.config.canonical())
        case Component():
            state = model.state_dict()
            if model.own_base is not None:
                model.adopt_base()
                _save(model.own_base, _made(folder / _BASE), set())
                state = {name: tensor for name, tensor in state.items() if not name.startswith(_OWN)}
            _save_weights(state, folder / _WEIGHTS["component"])
            write_json(folder / CARDS["component"], model.card.canonical())
        case ComposedModel():
            _check_base(model)
            if model.base.digest not in saved:
                _save(model.base, _made(folder / _BASE), saved)
            for name in model.parts:
                _save(model.part(name), _made(folder / _PARTS / name), saved)
            if _has_own_weights(model):
                _save_weights(model.fusion.state_dict(), folder / _WEIGHTS["composition"])
            write_json(folder / CARDS["composition"], model.card.canonical())
    if isinstance(model, Base):
        saved.add(model.digest)


def _check_base(model: ComposedModel) -> None:
    now, then = model.base.digest, model.card.base_digest
    if now != then:
        raise CompositionError(
            f"the base of the composition {model.name!r} must be the one that its parts were trained on, "
            f"{then[:12]}, but it has changed since, to {now[:12]}. Call `freeze()` on a base before training with it; "
            "if base and parts were trained together, call `adopt_base()`."
        )


class _Loading:
    """One model that is being loaded: the bases met so far, by digest, and the open folders from the outermost."""

    def __init__(self) -> None:
        self._bases: dict[str, Base] = {}
        self._folders: list[Path] = []

    def load(self, folder: Path, *kinds: Kind) -> Base | Component:
        kind = kind_of(folder)
        if kind not in kinds:
            raise ArtifactError(f"{folder} must hold a model of kind {' or '.join(kinds)}, got {kind}.")
        match kind:
            case "embedder":
                return _embedder(folder)
            case "component":
                return _component(folder)
            case "composition":
                return self._composition(folder)

    def base(self, folder: Path) -> Base:
        return self._known(cast("Base", self.load(folder, "embedder", "composition")))

    def part(self, folder: Path) -> Part:
        model = cast("Part", self.load(folder, "component", "composition"))
        if isinstance(model, Component):
            return model
        known = self._known(model)  # the base itself can be among the parts
        return known if isinstance(known, ComposedModel) and known.name == model.name else model

    def _known(self, base: Base) -> Base:
        """The base of that digest that was met first."""
        return self._bases.setdefault(base.digest, base)

    def _composition(self, folder: Path) -> ComposedModel:
        here = folder.resolve()
        if here in self._folders:
            raise ArtifactError(f"{folder} must not contain itself; a link leads from it back to {here}.")
        self._folders.append(here)
        path = folder / CARDS["composition"]
        card = CompositionCard.parse(read_json(path), str(path))
        base = self._base_of(folder, card.base_digest)
        model = ComposedModel(base, [self.part(folder / _PARTS / name) for name in card.parts], card.name, card.fusion)
        weights = folder / _WEIGHTS["composition"]
        if model.fusion.state_dict() and (weights.is_file() or not isinstance(model.fusion, Component)):
            _load_weights(model.fusion, weights)
        self._folders.pop()
        return model.eval()

    def _base_of(self, folder: Path, digest: str) -> Base:
        """The base of a composition: in its own folder, or met before if the composition is inside another one."""
        if (folder / _BASE).is_dir():
            base = self.base(folder / _BASE).freeze()
            if base.digest != digest:
                raise ArtifactError(
                    f"{folder} must hold the base that it names, {digest[:12]}, but holds {base.digest[:12]}. Compose "
                    "it again."
                )
            return base
        if digest not in self._bases:
            raise ArtifactError(
                f"base {digest[:12]} not found in {folder / _BASE}. A composition that was saved inside another one is "
                "loaded with it: load the outermost folder."
            )
        return self._bases[digest]


def _embedder(folder: Path) -> Embedder:
    path = folder / CARDS["embedder"]
    config = EmbedderConfig.parse(read_json(path), str(path))
    embedder = Embedder(Preprocessor.load(folder / PREPROCESSOR), config)
    _load_weights(embedder, folder / _WEIGHTS["embedder"])
    return embedder


def _component(folder: Path) -> Component:
    path = folder / CARDS["component"]
    card = ComponentCard.parse(read_json(path), str(path))
    own = load_base(folder / _BASE) if card.is_fork else None
    component = Component(card, own)
    _load_weights(component, folder / _WEIGHTS["component"], None if own is None else own.state_dict(prefix=_OWN))
    return component


def _has_own_weights(model: ComposedModel) -> bool:
    """Whether the fusion has weights that do not follow from the parts."""
    state = model.fusion.state_dict()
    if not isinstance(model.fusion, Component):
        return bool(state)
    mean = averaged({name: model.part(name) for name in model.parts}).state_dict()
    return any(not torch.equal(tensor, mean[name]) for name, tensor in state.items())


def _save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)


def _load_weights(module: nn.Module, path: Path, others: Mapping[str, Tensor] | None = None) -> None:
    """Fills a module with the weights of a file; `others` are those of its weights that other files hold.

    Raises:
        ArtifactError: the file is missing or damaged, or names and shapes differ.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} not found. Run the stage that makes it.")
    try:
        module.load_state_dict({**load_file(path), **(others or {})})
    except (SafetensorError, RuntimeError) as error:  # torch names missing tensors and wrong shapes in a RuntimeError
        raise ArtifactError(f"{path} must hold the weights of a whole {type(module).__name__}: {error}") from None


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
