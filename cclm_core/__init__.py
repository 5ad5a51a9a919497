"""CCLM: composable, character-level language models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cclm_core.composition.composed import ComposedModel
    from cclm_core.composition.store import load, save
    from cclm_core.encoders.embedder import Embedder
    from cclm_core.pretraining.pretrainer import (
        CausalLanguagePretrainer,
        CharacterMaskPretrainer,
        MaskedLanguagePretrainer,
    )
    from cclm_core.shelf import Shelf
    from cclm_core.text.vocabulary import Preprocessor

__version__ = "0.1.0"

__all__ = [
    "CausalLanguagePretrainer",
    "CharacterMaskPretrainer",
    "ComposedModel",
    "Embedder",
    "MaskedLanguagePretrainer",
    "Preprocessor",
    "Shelf",
    "load",
    "save",
]

_MODULES = {
    "CausalLanguagePretrainer": "cclm_core.pretraining.pretrainer",
    "CharacterMaskPretrainer": "cclm_core.pretraining.pretrainer",
    "ComposedModel": "cclm_core.composition.composed",
    "Embedder": "cclm_core.encoders.embedder",
    "MaskedLanguagePretrainer": "cclm_core.pretraining.pretrainer",
    "Preprocessor": "cclm_core.text.vocabulary",
    "Shelf": "cclm_core.shelf",
    "load": "cclm_core.composition.store",
    "save": "cclm_core.composition.store",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that `import cclm_core` does not import torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'cclm_core' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """The public names, also those that are not imported yet."""
    return sorted([*__all__, "__version__", "__doc__", "__name__", "__path__"])
