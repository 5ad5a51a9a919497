"""What each type of item consists of, and what its own files say of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cclm_core.composition.store import CARDS, PREPROCESSOR, load_component, load_composition, load_embedder
from cclm_core.runtime.artifacts import MANIFEST, read_json, verify
from cclm_core.runtime.errors import ArtifactError
from cclm_core.shelf.contents import regular_files
from cclm_core.shelf.names import check_item_type
from cclm_core.text.vocabulary import Preprocessor

CARD, METRICS = "card.json", "metrics.json"  # what a stage publishes beside the weights


@dataclass(frozen=True)
class Described:
    """An item as its own files describe it.

    Attributes:
        sources: name in the item -> where the file is now.
        configuration: as it stands in its files.
        digests: `model`, `base`, `vocabulary` and `data`, as far as there are any.
        scores: its figures.
    """

    sources: dict[str, Path]
    configuration: dict[str, Any]
    digests: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)


def describe(folder: Path, item_type: str) -> Described:
    """Reads an item that is to be published, and checks that it is one.

    Args:
        folder: what `save` wrote or a stage published; for a preprocessor its file, or a folder that holds it.
        item_type: one of `names.ITEM_TYPES`.

    Raises:
        CclmError: it is no such item, or a file of it is missing or damaged.
    """
    check_item_type(item_type)
    if item_type == "preprocessor":
        return _preprocessor(folder / PREPROCESSOR if folder.is_dir() else folder)
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder} must be the folder of a {item_type}; there is none. Run the stage that makes it."
        )
    sources = dict(regular_files(folder))
    if MANIFEST in sources:
        verify(folder, item_type)
    configuration, digests = _READERS[item_type](folder)
    scores = _mapping(folder / METRICS) if METRICS in sources else {}
    data = _mapping(folder / CARD).get("data") if CARD in sources else None
    return Described(sources, configuration, digests | ({"data": data} if isinstance(data, str) else {}), scores)


def _preprocessor(path: Path) -> Described:
    preprocessor = Preprocessor.load(path)
    digests = {"model": preprocessor.digest, "vocabulary": preprocessor.digest}
    return Described({PREPROCESSOR: path}, preprocessor.config.canonical(), digests)


def _embedder(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    embedder = load_embedder(folder)
    digests = {"model": embedder.digest, "vocabulary": embedder.preprocessor.digest}
    return _mapping(folder / CARDS["embedder"]), digests


def _component(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    card = load_component(folder).card
    # One that has an embedding, or a copy of a base, of its own stands on no base.
    base = {} if card.base_digest is None else {"base": card.base_digest}
    return _mapping(folder / "component.json"), {**base, "vocabulary": card.preprocessor_digest}


def _composition(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    composed = load_composition(folder)
    digests = {"model": composed.digest, "base": composed.card.base_digest, "vocabulary": composed.preprocessor.digest}
    return _mapping(folder / "composition.json"), digests


_READERS = {"embedder": _embedder, "component": _component, "composition": _composition}


def _mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} must hold a JSON object, got {type(value).__name__}. Make it anew.")
    return value
