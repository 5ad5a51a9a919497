"""CCLM: composable, character-level language models."""

import sys
from typing import TYPE_CHECKING, Any

from cclm_core.runtime.migration import OldModules, old_names

if TYPE_CHECKING:
    from cclm_core.composition.composed import ComposedModel
    from cclm_core.composition.store import load, save
    from cclm_core.encoders.embedder import Embedder
    from cclm_core.pretraining import (
        CausalLanguagePretrainer,
        CharacterMaskPretrainer,
        EntityPretrainer,
        MaskedLanguagePretrainer,
        Pretrainer,
    )
    from cclm_core.shelf import Shelf
    from cclm_core.text.vocabulary import Preprocessor

__version__ = "0.1.0"

__all__ = [
    "CausalLanguagePretrainer",
    "CharacterMaskPretrainer",
    "ComposedModel",
    "Embedder",
    "EntityPretrainer",
    "MaskedLanguagePretrainer",
    "Preprocessor",
    "Pretrainer",
    "Shelf",
    "load",
    "save",
]

_MODULES = {
    "CausalLanguagePretrainer": "cclm_core.pretraining",
    "CharacterMaskPretrainer": "cclm_core.pretraining",
    "ComposedModel": "cclm_core.composition.composed",
    "Embedder": "cclm_core.encoders.embedder",
    "EntityPretrainer": "cclm_core.pretraining",
    "MaskedLanguagePretrainer": "cclm_core.pretraining",
    "Preprocessor": "cclm_core.text.vocabulary",
    "Pretrainer": "cclm_core.pretraining",
    "Shelf": "cclm_core.shelf",
    "load": "cclm_core.composition.store",
    "save": "cclm_core.composition.store",
}

if not any(isinstance(finder, OldModules) for finder in sys.meta_path):
    sys.meta_path.append(OldModules())


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, so that `import cclm_core` does not import torch."""
    from importlib import import_module

    if name not in _MODULES:
        return old_names(__name__)(name)

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """The public names, also those that are not imported yet."""
    return sorted([*__all__, "__version__", "__doc__", "__name__", "__path__"])
