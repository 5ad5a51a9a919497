"""What each type of item consists of, and what its own files say about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cclm_core.composition.store import CARDS, PREPROCESSOR, kind_of, load_component, load_composition, load_embedder
from cclm_core.runtime.artifacts import MANIFEST, read_json, verify
from cclm_core.runtime.errors import ArtifactError
from cclm_core.shelf.files import regular_files
from cclm_core.text.vocabulary import Preprocessor

IDENTITY, METRICS = "card.json", "metrics.json"  # what a stage publishes next to the weights


@dataclass(frozen=True)
class Described:
    """An item as its own files describe it."""

    sources: dict[str, Path]  # path in the item -> file
    configuration: dict[str, Any]
    digests: dict[str, str]  # `model`, `base`, `vocabulary` and `data`, as far as known
    scores: dict[str, Any]


def describe(folder: Path, item_type: str) -> Described:
    """Reads an item that is to be published, and loads it to check that it is valid.

    Args:
        folder: what `save` wrote or a stage published; for a preprocessor its file, or a folder that contains it.
        item_type: one of `names.ITEM_TYPES`.

    Raises:
        CclmError: it is not such an item, or a file of it is missing or damaged.
    """
    if item_type == "preprocessor":
        path = folder / PREPROCESSOR if folder.is_dir() else folder
        preprocessor = Preprocessor.load(path)
        digests = {"model": preprocessor.digest, "vocabulary": preprocessor.digest}
        return Described({PREPROCESSOR: path}, preprocessor.config.canonical(), digests, {})
    if not folder.is_dir():
        raise ArtifactError(f"{folder} not found; it must be the folder of a {item_type}. Run the stage that makes it.")
    sources = dict(regular_files(folder))
    if MANIFEST in sources:
        verify(folder, item_type)
    name, digests = _loaded(folder, item_type)
    scores = _mapping(folder / METRICS) if METRICS in sources else {}
    data = _mapping(folder / IDENTITY).get("data") if IDENTITY in sources else None
    digests |= {"data": data} if isinstance(data, str) else {}
    return Described(sources, _mapping(folder / name), digests, scores)


def _loaded(folder: Path, item_type: str) -> tuple[str, dict[str, str]]:
    """Loads a model; returns the name of the file with its configuration, and its digests."""
    name = CARDS[kind_of(folder)]
    if item_type == "embedder":
        embedder = load_embedder(folder)
        return name, {"model": embedder.digest, "vocabulary": embedder.preprocessor.digest}
    if item_type == "component":
        card = load_component(folder).card
        base = {} if card.base_digest is None else {"base": card.base_digest}  # None: it has an embedding of its own
        return name, {**base, "vocabulary": card.preprocessor_digest}
    composed = load_composition(folder)
    digests = {"model": composed.digest, "base": composed.card.base_digest, "vocabulary": composed.preprocessor.digest}
    return name, digests


def _mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} must contain a JSON object, got {type(value).__name__}.")
    return value
