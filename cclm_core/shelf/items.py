"""Reads an item that is to be published: its files, configuration, digests and scores."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.store import CARDS, PREPROCESSOR, kind_of, load_component, load_composition, load_embedder
from cclm_core.encoders.embedder import Base
from cclm_core.runtime.artifacts import MANIFEST, read_json, verify
from cclm_core.runtime.errors import ArtifactError
from cclm_core.shelf.files import regular_files
from cclm_core.text.vocabulary import Preprocessor

IDENTITY, METRICS = "card.json", "metrics.json"  # published by a stage next to the weights
_LOADERS: dict[str, Callable[[Path], Base | Component]] = {
    "embedder": load_embedder,
    "component": load_component,
    "composition": load_composition,
}


@dataclass(frozen=True)
class Described:
    """The content of an item's own files."""

    sources: dict[str, Path]  # path in the item -> file
    configuration: dict[str, Any]
    digests: dict[str, str]  # those of `model`, `base`, `vocabulary` and `data` that are known
    scores: dict[str, Any]


def describe(folder: Path, item_type: str) -> Described:
    """Reads an item, and loads it to check that it is valid.

    Args:
        folder: output of `save` or of a stage; for a preprocessor its file, or a folder that contains it.
        item_type: one of `names.ITEM_TYPES`.

    Raises:
        CclmError: it is not such an item, or a file is missing or damaged.
    """
    if item_type == "preprocessor":
        path = folder / PREPROCESSOR if folder.is_dir() else folder
        preprocessor = Preprocessor.load(path)
        digests = {"model": preprocessor.digest, "vocabulary": preprocessor.digest}
        return Described({PREPROCESSOR: path}, preprocessor.config.canonical(), digests, {})
    if not folder.is_dir():
        raise ArtifactError(f"{folder} not found. Run the stage that makes the {item_type}.")
    sources = dict(regular_files(folder))
    if MANIFEST in sources:
        verify(folder, item_type)
    configuration = _mapping(folder / CARDS[kind_of(folder)])
    match model := _LOADERS[item_type](folder):
        case Component():
            known = {"base": model.card.base_digest, "vocabulary": model.card.preprocessor_digest}
        case ComposedModel():
            known = {"model": model.digest, "base": model.card.base_digest, "vocabulary": model.preprocessor.digest}
        case _:
            known = {"model": model.digest, "vocabulary": model.preprocessor.digest}
    known["data"] = _mapping(folder / IDENTITY).get("data") if IDENTITY in sources else None
    scores = _mapping(folder / METRICS) if METRICS in sources else {}
    digests = {name: value for name, value in known.items() if isinstance(value, str)}
    return Described(sources, configuration, digests, scores)


def _mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} must contain a JSON object, got {type(value).__name__}.")
    return value
