"""The configuration and the card of a composition."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cclm_core.composition.fusion import ConcatenationConfig, FusionConfig
from cclm_core.composition.parts import PartDict
from cclm_core.runtime.config import Config

_NAME = re.compile(r"[^./\\]+")
_NAME_BYTES = 200  # a name of a folder has at most 255, and temporary names are longer
_MAX_PARTS = 1000
_RESERVED = PartDict({}, lambda _: None)


def _checked(names: Sequence[str]) -> Sequence[str]:
    if not names:
        raise ValueError("a composition must have at least one component, got none. List them under `parts`.")
    if len(names) > _MAX_PARTS:
        raise ValueError(f"a composition must have at most {_MAX_PARTS} parts, got {len(names)}. Nest compositions.")
    known: dict[str, str] = {}
    for name in names:
        if not _NAME.fullmatch(name) or not name.isprintable():
            raise ValueError(
                "the name of a part must not be empty or contain `.`, `/`, `\\` or characters that cannot be printed, "
                f"got {name!r:.80}."
            )
        if len(name.encode()) > _NAME_BYTES:
            raise ValueError(
                f"the name of a part must have at most {_NAME_BYTES} bytes, got {len(name.encode())}: {name!r:.80}. "
                "Shorten it."
            )
        if hasattr(_RESERVED, name):
            raise ValueError(f"the name of a part must not be {name!r}, reserved by torch.nn.ModuleDict. Rename it.")
        key = unicodedata.normalize("NFC", name).casefold()
        if key in known:
            raise ValueError(_repeated(name, known[key]))
        known[key] = name
    return names


def _repeated(name: str, other: str) -> str:
    if name == other:
        return f"names of parts must be unique, got {name!r} twice. Rename or remove one."
    return (
        f"names of parts must differ in more than case, got {other!r} and {name!r}, which are one folder on some "
        "systems. Rename one."
    )


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
