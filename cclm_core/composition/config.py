"""The configuration and the card of a composition."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from torch import nn

from cclm_core.composition.fusion import ConcatenationConfig, FusionConfig
from cclm_core.runtime.config import Config

_NAME = re.compile(r"[^./\\\x00-\x1f\x7f]+")
_RESERVED = nn.ModuleDict()


def _checked(names: Sequence[str]) -> Sequence[str]:
    if not names:
        raise ValueError("a composition must have at least one component, got none. List them under `parts`.")
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"names of parts must be unique, got {name!r} twice. Rename or remove one.")
        if not _NAME.fullmatch(name):
            raise ValueError(f"the name of a part must not be empty or contain `.`, `/` or `\\`, got {name!r}.")
        if hasattr(_RESERVED, name):
            raise ValueError(f"the name of a part must not be {name!r}, reserved by torch.nn.ModuleDict. Rename it.")
    return names


Names = Annotated[tuple[str, ...], AfterValidator(_checked)]
"""Names of parts, in the order of their features; also names of folders and prefixes of weights."""


class CompositionConfig(Config):
    """A composition in `params.yaml`."""

    parts: Names = Field(description="names of components, at least one, in the order of their features")
    fusion: FusionConfig = Field(
        default=ConcatenationConfig(), description="how features are joined; see composition/fusion.py"
    )
    untrained: bool = Field(
        default=False, description="a control: the same parts with random weights, to show what training contributes"
    )


class CompositionCard(Config):
    """The parts of a composition.

    The format is `cclm-composition-2` if the base or a part is a composition.
    """

    format: Literal["cclm-composition-1", "cclm-composition-2"] = "cclm-composition-1"
    name: str
    fusion: FusionConfig
    parts: Names = Field(description="names of the parts, in the order of their features")
    base_digest: str
