"""Components and compositions, and how to save and load them."""

from cclm_core.composition.card import ComponentCard
from cclm_core.composition.component import Component, OverBase, features_of
from cclm_core.composition.composed import ComposedModel, Part
from cclm_core.composition.config import CompositionCard, CompositionConfig
from cclm_core.composition.fusion import Fusion, FusionConfig
from cclm_core.composition.long_texts import Piece, TextReader
from cclm_core.composition.store import (
    load,
    load_all,
    load_base,
    load_component,
    load_composition,
    load_embedder,
    save,
)

__all__ = [
    "Component",
    "ComponentCard",
    "ComposedModel",
    "CompositionCard",
    "CompositionConfig",
    "Fusion",
    "FusionConfig",
    "OverBase",
    "Part",
    "Piece",
    "TextReader",
    "features_of",
    "load",
    "load_all",
    "load_base",
    "load_component",
    "load_composition",
    "load_embedder",
    "save",
]
