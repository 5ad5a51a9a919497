"""Reading back what was saved: an embedder, a component or a composition, whichever a folder holds."""

from pathlib import Path

from cclm_core.composition.card import CompositionCard, kind_of
from cclm_core.composition.component import Component
from cclm_core.composition.composed import BASE, CARD, PARTS, ComposedModel
from cclm_core.composition.part import Part
from cclm_core.encoders.embedder import Base, Embedder
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ArtifactError

WINDOW = 256
"""Ids that most trainings read at once."""


def load(folder: Path) -> Base | Part:
    """Reads whichever of an embedder, a component or a composition a folder holds, by its card.

    Raises:
        ArtifactError: it holds none of them, or a file is missing or damaged.
        CompositionError: the parts of a composition do not belong together.
    """
    return Component.load(folder) if kind_of(folder) == "component" else load_base(folder)


def load_base(folder: Path) -> Base:
    """Reads the embedder or the composition that a folder holds; raises as `load`, and where it holds a component."""
    return _Opened().base(folder)


def load_part(folder: Path) -> Part:
    """Reads the component or the composition that a folder holds; raises as `load`, and where it holds an embedder."""
    return _Opened().part(folder)


def load_composition(folder: Path) -> ComposedModel:
    """Reads a composition; raises as `load`. Its base comes frozen."""
    return _Opened().composition(folder)


class _Opened:
    """A model that is being read: what others may stand on, by digest, and the open folders, from the outermost."""

    def __init__(self) -> None:
        self._bases: dict[str, Base] = {}
        self._folders: list[Path] = []

    def base(self, folder: Path) -> Base:
        match kind_of(folder):
            case "embedder":
                return Embedder.load(folder)
            case "composition":
                return self.composition(folder)
            case kind:
                raise ArtifactError(f"{folder} must hold an embedder or a composition, to stand on; it holds a {kind}.")

    def part(self, folder: Path) -> Part:
        match kind_of(folder):
            case "component":
                return Component.load(folder)
            case "composition":
                return self.composition(folder)
            case kind:
                raise ArtifactError(f"{folder} must hold a component or a composition, to compose; it holds an {kind}.")

    def composition(self, folder: Path) -> ComposedModel:
        here = folder.resolve()
        if here in self._folders:
            raise ArtifactError(f"{folder} must not hold itself; a link leads from it back to {here}.")
        self._folders.append(here)
        card = CompositionCard.parse(read_json(folder / CARD), str(folder / CARD))
        base = self._base_of(folder, card.base_digest)
        parts = [self.part(folder / PARTS / name) for name in card.parts]
        model = ComposedModel(base, parts, card.name, card.fusion)
        model.load_fusion(folder)
        self._folders.pop()
        if self._folders:  # what stands among the parts may be the base of others
            self._bases.setdefault(model.digest, model)
        return model.eval()

    def _base_of(self, folder: Path, digest: str) -> Base:
        """The base of a composition: in its own folder, or, if it is inside of another one, met before."""
        if (folder / BASE).is_dir():
            base = self.base(folder / BASE).freeze()
            if base.digest != digest:
                raise ArtifactError(
                    f"{folder} must stand on the base that it names: it names {digest[:12]}, its base is "
                    f"{base.digest[:12]}. Compose it anew."
                )
            return self._bases.setdefault(digest, base)
        if digest not in self._bases:
            raise ArtifactError(
                f"{folder / BASE} must hold the base {digest[:12]}; there is none. A composition that was saved inside "
                "of another is loaded with it: load the outermost folder."
            )
        return self._bases[digest]


def trained_window(component: Path) -> int:
    """The window of the training that made a component; that of most trainings if its folder does not say."""
    card = read_json(component / "card.json") if (component / "card.json").is_file() else {}
    return int(card.get("configuration", {}).get("training", {}).get("window", WINDOW))
